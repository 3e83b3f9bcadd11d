"""Disks under the workflow: one that is full, one that the job fills, and results that can only be read."""

import shutil
import subprocess
from pathlib import Path

import pytest
from workflow_runs import SMALL, copy_project, start_snakemake, write_study

DATASET = "results/prepare_data/digits.safetensors"
# Commands that give the one after them a disk of some kilobytes, partly full, or the rights of a user who is not root.
SMALL_DISK = 'mount -t tmpfs -o size="$1k" none "$2" && { head -c "$3" /dev/zero > "$2/fill"; shift 3; exec "$@"; }'
OWN_DISK = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", SMALL_DISK, "disk"]
NO_ROOT = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def works(*command: str) -> bool:
    """Return whether this system allows a command that a test needs."""
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("project"))
    write_study(folder, SMALL)
    (folder / "work").mkdir()
    return folder


def run(folder: Path, *arguments: str, **options) -> tuple[int, str]:
    """Run Snakemake with options of `start_snakemake`; return exit code and output, which has no traceback."""
    process = start_snakemake(folder, *arguments, **options)
    said, _ = process.communicate()
    assert "Traceback" not in said and "Logging error" not in said, said
    return process.returncode, said


@pytest.mark.promise("full-disk")
@pytest.mark.skipif(not works(*OWN_DISK, "64", "/mnt", "0", "true"), reason="the system lets no user mount a disk")
@pytest.mark.parametrize(
    ("kilobytes", "filled", "name"),
    [(64, 10**6, ".snakemake"), pytest.param(64, 40_000, ".snakemake", marks=pytest.mark.long), (2000, 0, DATASET)],
)
def test_a_full_disk_gives_one_sentence(kilobytes, filled, name, project):
    disk = [*OWN_DISK, str(kilobytes), str(project / "work"), str(filled)]
    code, said = run(project, DATASET, "--directory", "work", before=disk)
    assert code == 1 and f"{name}: cannot be written (No space left on device); make room" in said, said
    assert ("rule prepare_data" in said) == (name == DATASET)


@pytest.mark.promise("full-disk")
@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME"])
def test_a_cache_of_snakemake_that_cannot_be_written_is_one_sentence(variable, project):
    environment = {"XDG_CACHE_HOME": "", variable: "/proc/nobody"}
    code, said = run(project, "-n", environment=environment)
    assert code == 1 and "Error: /proc/nobody/" in said and "XDG_CACHE_HOME names another folder." in said, said


@pytest.mark.promise("long-names")
def test_a_working_directory_with_too_long_a_name_is_refused_in_one_sentence(project):
    code, said = run(project, "-n", "--directory", "x" * 300)
    assert code == 1 and "xxx: cannot be used (File name too long)" in said, said


@pytest.mark.promise("any-umask")
@pytest.mark.skipif(not works(*NO_ROOT, "true"), reason="the system lets no user have a name space")
@pytest.mark.parametrize("umask", [0o777, pytest.param(0o377, marks=pytest.mark.long)])
def test_the_workflow_starts_under_a_umask_that_takes_everything(umask, project, tmp_path):
    home = {"HOME": str(tmp_path)}
    for _ in range(2):  # the second one reads what the first has written
        code, said = run(project, "-n", "--directory", "masked", before=NO_ROOT, umask=umask, environment=home)
        assert code == 0 and "prepare_data" in said, said


@pytest.mark.promise("read-only-study")
@pytest.mark.skipif(not works(*NO_ROOT, "true"), reason="the system lets no user have a name space")
def test_results_that_can_only_be_read_are_verified(project):
    results = project / "results"
    results.chmod(0o555)
    try:
        code, said = run(project, "verify", before=NO_ROOT)
    finally:
        results.chmod(0o755)
    assert code == 1 and "FAIL  results of dense [paper], 1 seeds: " in said and " checks: " in said, said
    assert "make room" not in said and not any(results.iterdir())
