"""What Snakemake says on the terminal: a dry run that can be read, and a misspelt target with the nearest one."""

from pathlib import Path

import pytest
from synthetic_results import synthetic_result
from workflow_runs import copy_project, planned_jobs, run, snakemake

from afmp.records import write_result
from afmp.study.study import read_study


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with its shipped study, of which one file is there, and a result of another study."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    there = folder / "results/train/paper/dense/seed_0/best.safetensors"
    there.parent.mkdir(parents=True)
    there.touch()
    other = synthetic_result("sparse_0.3")
    write_result(folder / "results/train/paper/other/seed_0/results_other.json", other | {"run": "other"})
    return folder


def test_a_dry_run_of_the_whole_study_can_be_read(project):
    said = snakemake(project, "all", "--dry-run")
    assert len(said) < 60_000 and max(map(len, said.splitlines())) < 800
    trainings = read_study(project / "config.yaml").trainings
    assert planned_jobs(said)["train"] == said.count("rule train:") == len(trainings)
    assert all(f"log: results/logs/train/{semantics}/{name}.log" in said for semantics, name in trainings)
    jobs = [job for job in said.split("rule ") if job.startswith("train:")]
    (dense,) = (job for job in jobs if "wildcards: semantics=paper, run=dense\n" in job)
    assert "output: results/train/paper/dense/seed_0/results_dense.json and 19 more\n" in dense
    assert "reason: Missing output files: results/train/paper/dense/seed_0/diagnostics.json and 18 more; Input" in dense
    assert "reason: Missing output files: all" in said
    warning = "Warning: results: most results there are of another configuration (dataset digits; run other): "
    assert said.count(warning) == 1


def test_with_verbose_a_dry_run_names_every_file(project):
    said = snakemake(project, "results/train/paper/dense/seed_0/results_dense.json", "--dry-run", "--verbose")
    assert "results/train/paper/dense/seed_4/final.safetensors" in said and " more" not in said


@pytest.mark.parametrize(
    ("target", "nearest"),
    [
        ("claim", "claims"),
        ("results/figures/paper/scalability_result.png", "results/figures/paper/scalability_results.png"),
    ],
)
def test_a_misspelt_target_ends_in_one_sentence(project, target, nearest):
    code, said = run(project, target, "--dry-run")
    sentence = f"Error: {target!r} is neither a target of this workflow nor a file that it makes (did you mean "
    assert code == 1 and said.splitlines()[-1].startswith(f"{sentence}{nearest!r}?); ")
    assert "Exception" not in said
