"""Progress of a study: runs, epochs and the time left, as the logs of its jobs say."""

import os
from pathlib import Path

import pytest
from training_runs import small_config, train

from afmp.log import show_progress
from afmp.training.progress import Job, StudyProgress, TrainedRun, duration

EPOCHS = 4


class Study:
    """Jobs 0, 1, ... that train the runs `names` with two seeds, and a job that draws; the test moves the clock."""

    def __init__(self, folder: Path, *names: str, trained_before: int = 0):
        self.now = 0.0
        self.logs = {name: folder / f"{name}.log" for name in names}
        self.jobs = {
            number: Job("train", f"train {name}", self.logs[name], TrainedRun(f"{name} [paper]", 2, EPOCHS))
            for number, name in enumerate(names)
        }
        self.jobs[len(names)] = Job("plot", "plot all")
        self.progress = StudyProgress(self.jobs, trained_before=trained_before, clock=lambda: self.now)

    def write(self, log: str, *lines: str) -> None:
        with self.logs[log].open("a") as file:
            file.writelines(f"2026-11-30 00:00:00  {line}\n" for line in lines)

    def epoch(self, run: str, seed: int, epoch: int, *, val: float = 50.0, log: str = "") -> None:
        """Write the line of an epoch."""
        self.write(
            log or run,
            f"{run} [paper] seed {seed}: epoch {epoch}/{EPOCHS}  loss 1.0000  train 40.00 %  val {val:.2f} % "
            "(best 60.00)  1.00 s  left 3 s",
        )

    def at(self, seconds: float) -> StudyProgress:
        self.now = seconds
        self.progress.read()
        return self.progress


def test_the_log_of_a_training_is_understood(tmp_path, few_digits_file):
    """Also of one that resumes: its finished epochs are not left to train."""
    config, log = small_config(epochs=1), tmp_path / "train.log"
    for _ in range(2):
        log.write_text("")
        run = TrainedRun("tiny [paper]", 2, 1)
        progress = StudyProgress({7: Job("train", "train tiny", log, run)})
        progress.start([7])
        with show_progress(log):
            (result, _) = train(config, tmp_path, few_digits_file, seeds=(0, 1))
        progress.read()
        assert run.reached == {0: 1, 1: 1} and run.epochs_left == 0
        if run.accuracies:
            assert run.accuracies[0] == pytest.approx(result["training_history"]["val_acc"][0], abs=0.005)
        else:
            assert "continues after epoch 1 of 1" in log.read_text()


def test_runs_are_counted_with_several_jobs_at_once(tmp_path):
    study = Study(tmp_path, "dense", "sparse", "wide")
    assert study.progress.summary() == "0 of 3 runs trained, 0 of 4 jobs done, time left is not known yet"
    study.progress.start([1, 0])
    study.epoch("sparse", 0, 1, val=41.256)
    assert study.at(10).running() == [
        "run 1 of 3: sparse [paper] seed 0, epoch 1/4, val 41.26 %",
        "run 2 of 3: dense [paper] starts",
    ]
    study.epoch("dense", 1, 2)
    study.progress.finish(1)
    study.progress.start([2])
    assert study.at(20).running() == [
        "run 2 of 3: dense [paper] seed 1, epoch 2/4, val 50.00 %",
        "run 3 of 3: wide [paper] starts",
    ]
    assert study.progress.summary().startswith("1 of 3 runs trained, 1 of 4 jobs done, about ")
    for number in (0, 2, 3):
        study.progress.finish(number)
    assert study.progress.summary() == "3 of 3 runs trained, 4 of 4 jobs done" and not study.progress.running()


def test_runs_that_train_in_the_job_of_another_are_counted(tmp_path):
    """As on one GPU, where the seeds of a run train together, too."""
    study = Study(tmp_path, "dense", "sparse")
    study.progress.start([0])
    for run in ("dense", "sparse"):
        for seed, val in ((0, 40), (1, 44)):
            study.epoch(run, seed, 3, val=val, log="dense")
    assert study.at(30).running() == [
        "run 1 of 2: dense [paper] 2 seeds, epoch 3/4, val 42.00 %",
        "run 2 of 2: sparse [paper] 2 seeds, epoch 3/4, val 42.00 %",
    ]
    assert study.progress.seconds_left() == pytest.approx(4 * 30 / 4 + 5)  # 4 epochs, and a job of 5 s


def test_a_resumed_study_counts_what_was_trained_before(tmp_path):
    """Runs that had finished, epochs of a checkpoint; but not what the log of an interrupted job says."""
    (tmp_path / "dense.log").write_text("")
    study = Study(tmp_path, "dense")
    study.epoch("dense", 0, 2)
    study = Study(tmp_path, "dense", trained_before=5)
    study.progress.start([0])
    assert study.at(10).running() == ["run 6 of 6: dense [paper] starts"]
    study.logs["dense"].write_text("")  # as a job does when it starts
    study.write("dense", "dense [paper] seed 0: continues after epoch 3 of 4")
    study.at(11)
    study.epoch("dense", 0, 4)
    assert study.at(13).running() == ["run 6 of 6: dense [paper] seed 0, epoch 4/4, val 50.00 %"]
    assert study.progress.seconds_left() == pytest.approx(4 * 3 + 5)  # seed 1 is left; an epoch took 3 s
    assert study.progress.summary() == "5 of 6 runs trained, 0 of 2 jobs done, about 17 s left"


def test_a_failed_job_is_counted_until_it_is_started_again(tmp_path):
    study = Study(tmp_path, "dense", "sparse")
    study.progress.start([0, 1])
    study.epoch("dense", 0, 1)
    study.at(5).fail(0)
    assert study.progress.summary().startswith("0 of 2 runs trained, 0 of 3 jobs done, 1 failed, about ")
    assert study.progress.running() == ["run 2 of 2: sparse [paper] starts"]
    study.progress.start([0])
    assert "failed" not in study.progress.summary() and len(study.progress.running()) == 2


def test_a_log_that_cannot_be_read_and_half_a_line_say_nothing(tmp_path):
    study = Study(tmp_path, "dense")
    study.progress.start([0])
    study.logs["dense"].mkdir()
    assert study.at(1).running() == ["run 1 of 1: dense [paper] starts"]
    study.logs["dense"].rmdir()
    study.epoch("dense", 0, 1)
    whole = study.logs["dense"].read_bytes()
    os.truncate(study.logs["dense"], len(whole) - 40)
    assert study.at(2).running() == ["run 1 of 1: dense [paper] starts"]
    study.logs["dense"].write_bytes(whole)
    assert study.at(3).running() == ["run 1 of 1: dense [paper] seed 0, epoch 1/4, val 50.00 %"]


def test_a_job_that_trains_nothing_shows_the_last_line_of_its_log(tmp_path):
    log = tmp_path / "96.log"
    progress = StudyProgress({0: Job("benchmark_resolution", "benchmark_resolution 96", log)})
    progress.start([0])
    assert progress.running() == ["benchmark_resolution 96"]
    log.write_text("2026-11-30 00:00:00  paper, 96 px\n2026-11-30 00:00:01  deit_tiny, 96 px\n")
    progress.read()
    assert progress.running() == ["benchmark_resolution 96: deit_tiny, 96 px"]
    assert progress.summary() == "0 of 1 jobs done, about 5 s left"


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (99, "99 s"), (700, "12 min"), (12000, "3 h 20 min")])
def test_a_duration_has_the_digits_of_an_estimate(seconds, words):
    assert duration(seconds) == words
