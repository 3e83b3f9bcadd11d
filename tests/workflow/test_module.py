"""The workflow as a module of another one: from a folder and from a git repository, with and without a prefix."""

import subprocess

import pytest
import yaml
from workflow_runs import SMALL, append, copy_project, planned_jobs, run, write_study

DATASET = "results/prepare_data/digits.safetensors"
MODULE = """
configfile: "my.yaml"


module afmp:
    snakefile:
        {snakefile}
    config:
        config{more}


use rule * from afmp as afmp_*


onstart:
    print("another's start")


onerror:
    print("another's error")
"""
PREFIX = '\n    prefix:\n        "some"'


@pytest.fixture
def ours(tmp_path):
    """This workflow, in a folder of its own."""
    (tmp_path / "ours").mkdir()
    return copy_project(tmp_path / "ours")


@pytest.fixture
def caller(ours):
    """Another workflow, in a folder of its own, which uses this one; its configuration is whole."""
    caller = ours.parent / "another's"
    caller.mkdir()
    write_study(caller, SMALL)
    (caller / "config.yaml").rename(caller / "my.yaml")
    (caller / "Snakefile").write_text(MODULE.format(snakefile=repr(str(ours / "Snakefile")), more=""))
    return caller


@pytest.mark.promise("module")
@pytest.mark.long
def test_another_workflow_can_use_this_one_as_a_module(caller, ours):
    code, said = run(caller, "-n")
    assert code == 0, said
    assert planned_jobs(said)["afmp_train"] == 1
    # Without a configuration of its own, the module has that of its config.yaml.
    snakefile = (caller / "Snakefile").read_text()
    (caller / "Snakefile").write_text(snakefile.replace("    config:\n        config\n", "", 1))
    code, said = run(caller, "-n")
    shipped = yaml.safe_load((ours / "config.yaml").read_text())
    assert code == 0 and planned_jobs(said)["afmp_train"] > len(shipped["studies"]), said


@pytest.mark.promise("module")
def test_with_a_prefix_every_file_of_a_module_is_behind_it(caller, ours):
    (caller / "Snakefile").write_text(MODULE.format(snakefile=repr(str(ours / "Snakefile")), more=PREFIX))
    code, said = run(caller, "-n", "--printshellcmds")
    assert code == 0 and planned_jobs(said)["afmp_manifest"] == 1, said
    assert "some/results/manifest.json" in said and " results/" not in said
    # Nothing of a dry run is written elsewhere.
    assert not (caller / "results").exists()


@pytest.mark.promise("module")
def test_a_module_may_be_read_from_a_git_repository(caller, ours):
    def git(*words):
        own = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", ours, *own, *words], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "A release")
    git("tag", "v1")
    append(ours / "rules/train.smk", "\nraise SystemExit('not of v1')\n")
    source = f'gitfile({str(ours)!r}, path="Snakefile", tag="v1")'
    (caller / "Snakefile").write_text(MODULE.format(snakefile=source, more=PREFIX))
    code, said = run(caller, "-n")
    assert code == 0 and planned_jobs(said)["afmp_train"] == 1, said
    (checkout,) = (caller / ".snakemake/afmp-checkouts").iterdir()
    assert (checkout / "afmp/__init__.py").is_file()


@pytest.mark.promise("module")
@pytest.mark.long
def test_a_module_with_a_prefix_makes_a_figure_and_loses_no_file(caller, ours):
    """What this workflow does before the first job and after the last one, it also does as a module."""
    (caller / "Snakefile").write_text(MODULE.format(snakefile=repr(str(ours / "Snakefile")), more=PREFIX))
    leftover = caller / "some/results/aggregate/.summary.csv.x.part"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    figure = "some/results/figures/paper/comparison_results_full.png"
    code, said = run(caller, figure)
    assert code == 0 and (caller / figure).is_file(), said
    assert "another's start" in said and not leftover.exists() and not (caller / "results").exists()
    assert "rule afmp_train: dense [paper], log: some/results/logs/train/paper/dense.log" in said
    before = (caller / "some" / DATASET).read_bytes()
    script = ours / "workflow_scripts/prepare_data.py"
    script.write_text("raise SystemExit(3)\n")
    code, said = run(caller, f"some/{DATASET}")
    assert code == 1 and "another's error" in said, said
    assert (caller / "some" / DATASET).read_bytes() == before
