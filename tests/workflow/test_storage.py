"""Results on object storage, with Snakemake's storage plugin `fs`, whose bucket is a folder."""

import os
import shutil

import pytest
from workflow_runs import SMALL, copy_project, planned_jobs, run, write_study

from afmp.records import read_result

RESULT = "results/train/paper/dense/seed_0/results_dense.json"
# What the plugin asks of rsync, for machines without it.
RSYNC = """#!/bin/sh
for last; do before=$file; file=$last; done
exec cp -RLp "$before" "$last"
"""


@pytest.fixture
def project(tmp_path):
    """Return a function that makes a copy of the project in a new folder, as a remote job would find it."""

    def make(name):
        (tmp_path / name).mkdir()
        folder = copy_project(tmp_path / name)
        write_study(folder, SMALL)
        return folder

    return make


def storage(folder) -> list[str]:
    return ["--default-storage-provider", "fs", "--default-storage-prefix", str(folder.parent / "bucket")]


@pytest.mark.promise("storage")
def test_only_results_are_looked_for_in_the_storage(project):
    folder = project("one")
    code, said = run(folder, "-n", *storage(folder))
    assert code == 0 and planned_jobs(said)["train"] == 1, said
    places = [word.rstrip(",") for line in said.splitlines() if "put:" in line for word in line.split() if "/" in word]
    assert places and all(place.startswith(f"{folder.parent}/bucket/results/") for place in places)
    assert not any((folder / "results").iterdir())


@pytest.mark.promise("storage")
def test_the_report_needs_a_folder_of_its_own_and_says_so(project):
    folder = project("one")
    code, said = run(folder, "report", "-n", *storage(folder))
    assert code == 1 and "Traceback" not in said, said
    assert "--default-storage-provider: found fs, but report reads the results as a folder; copy results/ from" in said
    code, said = run(folder, "verify", "-n", *storage(folder))
    assert code == 0 and planned_jobs(said) == {"verify": 1}, said


@pytest.mark.promise("storage")
@pytest.mark.long
def test_a_job_in_another_folder_resumes_from_the_checkpoints_in_the_storage(project, tmp_path):
    environment = {}
    if shutil.which("rsync") is None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/rsync").write_text(RSYNC)
        (tmp_path / "bin/rsync").chmod(0o755)
        environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    first, second = project("first"), project("second")
    code, said = run(first, RESULT, *storage(first), environment=environment)
    result, log = tmp_path / "bucket" / RESULT, tmp_path / "bucket/results/logs/train/paper/dense.log"
    assert code == 0 and "epoch 1/" in log.read_text(), said
    before = read_result(result)
    result.unlink()
    shutil.rmtree(first)
    code, said = run(second, RESULT, *storage(second), environment=environment)
    assert code == 0 and log.stat().st_size > 0 and "epoch 1/" not in log.read_text(), said
    again = read_result(result)
    assert all(again[key] == before[key] for key in ("files", "test_accuracy", "trained_by"))
    assert not (second / "results/checkpoints").exists()
    code, said = run(second, "verify", *storage(second), environment=environment)
    assert code == 1 and "PASS  results of dense [paper], 1 seeds" in said, said
    assert f"FAIL  table summary, computed again: {tmp_path}/bucket/results/aggregate/summary.csv: no such file" in said
