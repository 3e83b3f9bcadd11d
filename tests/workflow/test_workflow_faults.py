"""The workflow, interrupted by a person or a scheduler, with files damaged between two jobs."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from damaged_files import flipped
from workflow_runs import STUDY, copy_project, snakemake, start_snakemake, wait_for, write_study

from afmp.records import read_result

RESULT = "results/train/paper/dense/seed_0/results_dense.json"
FIGURE = "results/figures/paper/comparison_results_full.png"
DATASET = "results/prepare_data/digits.safetensors"
EPOCHS = 12


@pytest.fixture
def folder(tmp_path) -> Path:
    """A project with one run and one seed."""
    study = STUDY | {
        "semantics": ["paper"],
        "seeds": [0],
        "training": STUDY["training"] | {"epochs": EPOCHS, "visualize_every": EPOCHS},
        "studies": {"one": STUDY["studies"]["sparsity_level"] | {"runs": [{"run": "dense", "is_sparse": False}]}},
    }
    write_study(copy_project(tmp_path), study)
    return tmp_path


def log_of(folder: Path) -> str:
    log = folder / "results/logs/train/paper/dense.log"
    return log.read_text() if log.exists() else ""


def damage(path: Path, position: int) -> None:
    """Change one bit and keep the file's time, as a failing disk does."""
    times = path.stat()
    path.write_bytes(flipped(path.read_bytes(), position))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.promise("ctrl-c-ends-with-a-sentence")
@pytest.mark.parametrize(
    "what", ["train/paper/dense.log", pytest.param("benchmark_resolution/16.log", marks=pytest.mark.long)]
)
def test_ctrl_c_ends_a_job_at_once_with_a_sentence(folder, what):
    """Neither the terminal nor the log shows a traceback, and what was saved stays."""
    study = yaml.safe_load((folder / "config.yaml").read_text())
    study["training"]["epochs"] = 1000
    study["scalability"] |= {"resolutions": [16], "mode": ["inference", "train"], "repeats": 100, "seconds": 60}
    (folder / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    trains = what.startswith("train/")
    # What the first epoch and the first point left is saved when the second is logged.
    log, begun = folder / "results/logs" / what, r"epoch 2/" if trains else r"\[2/"
    target = RESULT if trains else "results/benchmark_scalability/paper/scalability.json"
    process = start_snakemake(folder, target, start_new_session=True)
    try:
        wait_for(lambda: log.exists() and re.search(begun, log.read_text()), process)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1 and "Traceback" not in said and "KeyboardInterrupt" not in said, said
    assert log.read_text().endswith("  interrupted; run the same command again to resume.\n")
    saved = folder / "results/checkpoints"
    assert list(saved.rglob("*.safetensors")) if trains else (saved / "benchmark_resolution/16.jsonl").stat().st_size


@pytest.mark.promise("same-command-resumes")
@pytest.mark.long
@pytest.mark.timeout(900)
def test_interrupted_and_damaged_the_workflow_resumes_with_the_same_command(folder):
    checkpoints = folder / "results/checkpoints/paper/dense"
    # Ctrl-C and a scheduler send the signal to Snakemake and to its jobs, which have a process group of their own here.
    for number in (signal.SIGINT, signal.SIGTERM):
        (folder / "results/logs/train/paper/dense.log").unlink(missing_ok=True)
        process = start_snakemake(folder, RESULT, start_new_session=True)
        try:
            wait_for(lambda: re.search(r"epoch \d+/", log_of(folder)) and list(checkpoints.glob("*")), process)
            os.killpg(process.pid, number)
            said, _ = process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 1 and "LockException" not in said and not (folder / RESULT).exists()
    assert "exit status 143" in said
    ends_before = int(re.search(r"SIGTERM came, training ends before epoch (\d+)", log_of(folder))[1])

    damage(folder / DATASET, 100_000)
    (checkpoint,) = checkpoints.glob("*.safetensors")
    damage(checkpoint, 20_000)
    snakemake(folder, RESULT)
    assert f"{DATASET}: is damaged: its content does not match its own hash; it is prepared again." in log_of(folder)
    epoch = int(re.search(r"damaged; the one before it is used, of epoch (\d+)", log_of(folder))[1])
    assert 1 <= epoch < ends_before - 1 and f"continues after epoch {epoch} of {EPOCHS}" in log_of(folder)

    result = (folder / RESULT).read_bytes()
    (folder / RESULT).write_bytes(result.replace(b'"seed": 0', b'"seed": 1'))  # one bit
    said = snakemake(folder, FIGURE, check=False)
    assert f"{RESULT}: damaged or edited" in said and "Traceback" not in said and not (folder / FIGURE).exists()
    assert "rule train" not in said  # the dataset that was prepared again keeps its time
    (folder / RESULT).unlink()
    snakemake(folder, FIGURE)
    assert (folder / FIGURE).exists() and "epoch 1/" not in log_of(folder)

    # A clock that was fast when the data was prepared starts no job. If one runs, Snakemake refuses and names the file,
    # and nothing is lost.
    history = read_result(folder / RESULT)["training_history"]
    os.utime(folder / DATASET, (time.time() + 86_400,) * 2)
    assert "Nothing to be done" in snakemake(folder, RESULT)
    (folder / RESULT).unlink()
    said = snakemake(folder, RESULT, check=False)
    assert "older modification time" in said and f"than input {DATASET}" in said
    (folder / DATASET).touch()
    snakemake(folder, RESULT)
    assert read_result(folder / RESULT)["training_history"] == history and "epoch 1/" not in log_of(folder)
