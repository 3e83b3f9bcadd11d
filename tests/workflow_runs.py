"""The workflow, run on a copy of the project with a small study."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from conftest import PROJECT
from forked_snakemake import call_snakemake

FOLDERS = ("rules", "workflow_scripts", "afmp", "report", "profiles", "envs")
PARTS = ("Snakefile", "config.yaml", "claims.yaml", "CITATION.cff", "README.md", *FOLDERS)

STUDY = {
    "dataset": {"source": "digits", "path": None, "image_size": 32},
    "semantics": ["paper", "notebook"],
    "seeds": [0, 1],
    "model": {"num_layers": 2, "d_model": 8},
    "training": {"epochs": 2, "batch_size": 256, "device": "cpu", "visualize_every": 2, "horizontal_flip": False},
    "studies": {
        "sparsity_level": {
            "section": "7.1",
            "title": "Sparsity level",
            "figure": "comparison_results_full",
            "reference": "dense",
            "runs": [{"run": "dense", "is_sparse": False}, {"run": "sparse_0.3"}],
        },
        "widths": {  # not a study of the paper; it shares a run with the first
            "section": "A.1",
            "title": "Widths",
            "figure": "widths",
            "reference": "sparse_0.3",
            "runs": [{"run": "sparse_0.3", "label": "8 channels"}, {"run": "wide", "d_model": 12}],
        },
    },
    "scalability": {
        "resolutions": [16, 32],
        "batch_size": 1,
        "precision": ["fp32"],
        "mode": ["train"],
        "execution": ["eager", "graph"],
        "attention": ["fused"],
        "device": "cpu",
        "warmup": 1,
        "repeats": 2,
    },
}

# One run, in seconds.
EPOCHS = 3
SMALL = STUDY | {
    "semantics": ["paper"],
    "seeds": [0],
    "training": STUDY["training"] | {"epochs": EPOCHS, "visualize_every": EPOCHS},
    "studies": {"one": STUDY["studies"]["sparsity_level"] | {"runs": [{"run": "dense", "is_sparse": False}]}},
    "scalability": STUDY["scalability"] | {"resolutions": [16], "execution": ["eager"]},
}


def write_study(folder: Path, study: dict) -> None:
    """Write the shipped configuration, changed by `study`, into `folder`."""
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    for section, values in study.items():
        merges = isinstance(values, dict) and section != "studies"
        config[section] = config[section] | values if merges else values
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def copy_project(folder: Path) -> Path:
    """Copy what the workflow needs of the project into `folder`, and return it."""
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / part)
    (folder / "results").mkdir()
    (folder / "tests").mkdir()
    return folder


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Let `make` fill the folder `project` in `folder`, and return it. Another process with the same folder waits."""
    folder.mkdir(exist_ok=True)
    project = folder / "project"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "finished").exists():
            shutil.rmtree(project, ignore_errors=True)
            project.mkdir()
            make(project)
            (folder / "finished").touch()
    return project


def finish_workflow(project: Path) -> None:
    """Copy the project and run its workflow with STUDY up to the report, with all that an environment may have."""
    write_study(copy_project(project), STUDY)
    (project / "matplotlibrc").write_text("backend: TkAgg\ntext.usetex: True\n")
    temporary = project.parent / ("t" * 100) / "ü 'b'"
    temporary.mkdir(parents=True, exist_ok=True)
    environment = {"TMPDIR": str(temporary), "MPLBACKEND": "nonsense", "LC_ALL": "C", "PYTHONUTF8": "0"}
    code, said = run(project, "report", environment=environment)
    assert code == 0, said
    assert not list(temporary.glob("afmp-*"))


def snakemake(folder: Path, *arguments, check=True) -> str:
    """Run Snakemake in `folder` and return its output, both streams in one."""
    code, said = run(folder, *arguments)
    assert code == 0 or not check, said
    return said


def run(folder: Path, *arguments: str, **options) -> tuple[int, str]:
    """Run Snakemake in `folder`; return its exit code and its output. The options are those of `start_snakemake`.

    Without options it runs in a fork of a process that has imported it. Its jobs are processes of their own.
    """
    if not options:
        return call_snakemake(folder, ["--cores", "2", *arguments], _environment())
    process = start_snakemake(folder, *arguments, **options)
    said, _ = process.communicate()
    return process.returncode, said


def start_snakemake(
    folder: Path,
    *arguments,
    environment: dict | None = None,
    python: Path | str = sys.executable,
    before: Sequence[str] = (),
    **options,
) -> subprocess.Popen:
    """Start Snakemake in `folder`, both output streams in one. `before`: a command that runs the one after it."""
    return subprocess.Popen(
        [*before, python, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        env=_environment() | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def _environment() -> dict[str, str]:
    """Return the environment of the tests, in which a copy of the project finds its own package."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def planned(folder: Path, target: str = "all") -> dict[str, int]:
    """Return how many jobs of each rule `snakemake <target> -n` plans, `all` itself left out."""
    return planned_jobs(snakemake(folder, target, "--dry-run"))


def planned_jobs(said: str) -> dict[str, int]:
    """Return how many jobs of each rule the output of a dry run lists, `all` itself left out."""
    stats = said.rsplit("Job stats:", 1)[1] if "Job stats:" in said else ""
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}
    assert jobs or "Nothing to be done" in said, said
    return {rule: count for rule, count in jobs.items() if rule not in ("all", "total")}


def append(path: Path, text: str) -> None:
    """Append `text` to a file of the copy, which must exist."""
    with path.open("r+") as file:
        file.seek(0, os.SEEK_END)
        file.write(text)


def wait_for(condition, process: subprocess.Popen, *, seconds: float = 120) -> None:
    """Wait until `condition` holds; fail if the process exits before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"still nothing after {seconds} s"
        time.sleep(0.1)
