"""What decides whether a job runs again is content: neither where a file lies nor when it was written."""

import os
import random
import re
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from workflow_runs import SMALL, append, copy_project, planned, run, snakemake, start_snakemake, wait_for, write_study

from afmp.study.study import read_study

pytestmark = pytest.mark.timeout(1200)  # the first test waits for the whole workflow, also on a busy machine

RESULT = "results/train/paper/dense/seed_0/results_dense.json"
LOG = "results/logs/train/paper/dense.log"
PICTURE = "results/plot_diagnostics/paper/dense/epoch_0002.png"
TRAININGS = 6  # three runs under two semantics


@pytest.fixture
def project(finished_workflow, tmp_path) -> Path:
    """A copy of the project with a finished study at another depth, with its times."""
    return shutil.copytree(finished_workflow, tmp_path / "2026/old/project", symlinks=True)


def shuffle_times(folder: Path) -> None:
    """Give every file another time, in no order that means anything."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    random.Random(0).shuffle(files)
    for second, path in enumerate(files):
        os.utime(path, (second, second))


@pytest.mark.promise("nothing-is-done-again")
def test_a_finished_study_that_is_moved_with_its_times_has_nothing_to_do(project):
    assert planned(project) == {}


@pytest.mark.promise("nothing-is-done-again")
@pytest.mark.parametrize("kept", [True, False], ids=["with .snakemake", "without .snakemake"])
def test_times_decide_nothing(project, kept):
    if not kept:
        shutil.rmtree(project / ".snakemake")
    shuffle_times(project)
    assert planned(project) == {}


@pytest.mark.promise("nothing-is-done-again")
def test_to_ask_for_scalars_starts_no_job(project):
    config = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(config.replace("tensorboard: false", "tensorboard: true"))
    assert read_study(project / "config.yaml").tensorboard
    assert planned(project) == {}


@pytest.mark.long
def test_a_training_job_writes_scalars_beside_the_study(tmp_path):
    folder = copy_project(tmp_path)
    write_study(folder, SMALL | {"training": SMALL["training"] | {"tensorboard": True}})
    snakemake(folder, RESULT)
    (events,) = (folder / "results/tensorboard").rglob("*.*")
    assert events.parent == folder / "results/tensorboard/paper/dense/seed_0"


def without_records(project: Path) -> None:
    shutil.rmtree(project / ".snakemake")
    shutil.rmtree(project / "results/snakemake_metadata")
    shuffle_times(project)


def test_where_times_decide_the_workflow_says_so_and_names_the_remedy(project):
    """A copy of the results without Snakemake's records of them."""
    sentence = "so here the times of files decide what runs again. .*`snakemake all --touch`"
    assert not re.search(sentence, snakemake(project, "all", "--dry-run"))
    without_records(project)
    said = snakemake(project, "all", "--dry-run")
    assert re.search(sentence, said) and "Updated input files" in said


@pytest.mark.long
def test_a_copy_without_records_is_verified_by_hashes_and_touched(project):
    without_records(project)
    assert re.search("0 failed", snakemake(project, "verify"))
    snakemake(project, "all", "--touch")
    assert planned(project) == {}


@pytest.mark.promise("nothing-is-done-again")
def test_results_that_are_moved_into_another_clone_keep_what_snakemake_knows_of_them(project, tmp_path):
    (tmp_path / "clone").mkdir()
    clone = copy_project(tmp_path / "clone")
    shutil.copy(project / "config.yaml", clone)
    assert planned(clone)["train"] == TRAININGS
    shutil.rmtree(clone / "results")
    (project / "results").rename(clone / "results")
    shutil.rmtree(clone / "results/checkpoints")
    assert planned(clone) == {}
    append(clone / "afmp/training/step.py", "\n# edited\n")
    assert planned(clone)["train"] == TRAININGS


@pytest.mark.promise("nothing-is-done-again")
def test_a_link_to_the_working_directory_is_the_directory(project, tmp_path):
    (tmp_path / "link").symlink_to(project)
    assert "Nothing to be done" in snakemake(project, "all", "--dry-run", "--directory", str(tmp_path / "link"))


def test_records_of_an_older_release_move_to_the_results(project):
    """They were in .snakemake, where a copy that follows links puts them too."""
    link, place = project / ".snakemake/metadata", project / "results/snakemake_metadata"
    link.unlink()
    place.rename(link)
    assert planned(project) == {} and link.is_symlink() and any(place.iterdir())
    link.unlink()
    shutil.copytree(place, link)
    assert planned(project) == {} and link.is_symlink()
    shutil.rmtree(project / "results")  # the link leads nowhere
    assert planned(project)["train"] == TRAININGS and link.samefile(place)


def test_a_script_is_watched_by_its_content(project):
    script = project / "workflow_scripts/aggregate.py"
    before = script.read_text()
    append(script, "\n# edited\n")
    os.utime(script, (0, 0))
    assert planned(project) == {"aggregate": 1, "manifest": 1}
    script.write_text(before)
    assert planned(project) == {}


def test_a_change_of_the_images_reaches_training_in_the_same_call(project):
    append(project / "afmp/data/digits.py", "\n# edited\n")
    jobs = planned(project)
    assert jobs["prepare_data"] == 1 and jobs["train"] == TRAININGS and jobs["aggregate"] == 1


@pytest.mark.promise("deleted-picture")
@pytest.mark.parametrize("ending", ["png", "rst"])
def test_a_deleted_picture_is_made_again(project, ending):
    (project / PICTURE).with_suffix(f".{ending}").unlink()
    assert planned(project) == {"plot_diagnostics": 1, "manifest": 1}


@pytest.mark.promise("deleted-picture")
def test_whatever_is_deleted_of_a_finished_study_is_made_again(project):
    """Snakemake asks for a file from which everything is made already only if it is a target itself."""
    for name in ("train/paper/dense/seed_0/best.safetensors", "benchmark_resolution/paper/16.json", "manifest.json"):
        (project / "results" / name).unlink()
    jobs = planned(project)
    assert jobs["train"] == jobs["benchmark_resolution"] == jobs["manifest"] == 1 and "prepare_data" not in jobs
    shutil.rmtree(project / "results/prepare_data")
    assert planned(project)["prepare_data"] == 1


@pytest.fixture
def without_links(tmp_path):
    """An environment in which no process can make a link, and a copy fails as on a full disk."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python/sitecustomize.py").write_text(NO_LINKS)
    return {"PYTHONPATH": str(tmp_path / "python")}


NO_LINKS = """
import os, shutil
def refuse(*arguments, **options): raise OSError(1, "Operation not permitted")
def full(*arguments, **options): raise OSError(28, "No space left on device")
os.symlink, os.link, shutil.copy2 = refuse, refuse, full
"""


@pytest.mark.promise("nothing-is-done-again")
def test_on_a_disk_without_links_the_records_stay_where_they_are(project, without_links):
    link, place = project / ".snakemake/metadata", project / "results/snakemake_metadata"
    link.unlink()
    shutil.copytree(place, link)
    for _ in range(2):
        code, said = run(project, "all", "-n", environment=without_links)
        assert code == 0 and "Nothing to be done" in said, said
    assert any(link.iterdir())


@pytest.mark.promise("interrupted-rerun")
def test_what_cannot_be_kept_is_not_replaced(project, without_links):
    """On a full disk without hard links."""
    table, result = "results/aggregate/scalability.csv", project / RESULT
    kept = project / RESULT.replace("results/", "results/set_aside/", 1)
    code, said = run(project, table, "--forcerun", "tabulate_scalability", environment=without_links)
    assert code == 1 and "Traceback" not in said and "rule tabulate_scalability" not in said, said
    assert "set_aside/aggregate/scalability" in said and "cannot be written (No space left on device)" in said
    assert (project / table).exists()
    shutil.rmtree((project / table).parent)
    kept.parent.mkdir(parents=True)
    result.rename(kept)  # as a killed call leaves it
    code, said = run(project, table, environment=without_links)
    assert code == 0 and kept.exists(), said


@pytest.mark.promise("checkpoints-deleted")
def test_without_checkpoints_a_finished_seed_is_not_trained_again(project):
    """Whatever the reason is for which its job starts: here another random seed, and code that writes results."""
    shutil.rmtree(project / "results/checkpoints")
    before = (project / RESULT).read_bytes()
    append(project / "afmp/records.py", "\n# edited\n")
    snakemake(project, RESULT.replace("seed_0", "seed_2"), "--config", "seeds=[0,1,2]")
    log = (project / LOG).read_text()
    assert "dense [paper] seed 2: epoch 1/2" in log and "seed 0: epoch" not in log
    assert "seed 0: is finished, and nothing that decides its numbers has changed" in log
    assert (project / RESULT).read_bytes() == before and not (project / "results/set_aside").exists()


@pytest.mark.promise("interrupted-rerun")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_an_interrupted_rerun_loses_nothing(project, number):
    """Snakemake deletes the outputs of a job before it starts."""
    shutil.rmtree(project / "results/checkpoints")
    config = project / "config.yaml"
    before, result = config.read_text(), (project / RESULT).read_bytes()
    study = yaml.safe_load(before)
    study["training"]["epochs"] = 1000
    config.write_text(yaml.safe_dump(study, sort_keys=False))
    process = start_snakemake(project, RESULT, start_new_session=True)
    try:
        wait_for(lambda: any((project / "results/checkpoints").rglob("*.safetensors")), process)
        assert not (project / RESULT).exists()
        os.killpg(process.pid, number)
        process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if number == signal.SIGINT:
        assert (project / RESULT).read_bytes() == result and planned(project)["train"] == TRAININGS
        config.write_text(before)
        assert planned(project) == {}
    else:
        config.write_text(before)
        snakemake(project, "--unlock")
        snakemake(project, RESULT)
        assert "epoch 1/" not in (project / LOG).read_text() and (project / RESULT).read_bytes() == result
