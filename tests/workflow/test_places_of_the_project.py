"""Where the project lies: paths that a shell reads otherwise."""

import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
from workflow_runs import SMALL, copy_project, planned_jobs, run, write_study

DATASET = "results/prepare_data/digits.safetensors"
# Names of the folder of a clone, and so also of its Python.
NAMES = [pytest.param("my project", marks=pytest.mark.long), "-a 'b' \"c\" $HOME;d & #e* [f]? \\g ~h|<i>`j`!\nü日"]


def own_python(folder: Path) -> Path:
    """Make an environment in `folder` that borrows the packages of the present one, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin/python"


@pytest.mark.promise("any-path")
@pytest.mark.parametrize("name", NAMES, ids=["space", "everything else"])
def test_a_clone_and_its_python_may_lie_in_a_folder_of_any_name(name, tmp_path):
    (tmp_path / name / "work {x}").mkdir(parents=True)
    folder = copy_project(tmp_path / name)
    write_study(folder, SMALL)
    code, said = run(folder, DATASET, "--directory", "work {x}", python=own_python(folder / ".venv"))
    assert code == 0 and (folder / "work {x}" / DATASET).is_file(), said


@pytest.mark.promise("any-path")
@pytest.mark.parametrize("name", ["{config}", "a{", "b}", "c:d"])
def test_a_path_that_cannot_work_is_refused_in_one_sentence_before_any_job(name, tmp_path):
    (tmp_path / name).mkdir()
    folder = copy_project(tmp_path / name)
    code, said = run(folder, DATASET)
    assert code == 1 and "Traceback" not in said and "rule " not in said, said
    assert f"{folder}: found '{name.strip('abcdonfig')[0]}' in the path of this project" in said
    assert "move the project to a folder without it" in said
    assert not any((folder / "results").iterdir())


@pytest.mark.promise("any-matplotlib-settings")
def test_reading_the_workflow_imports_no_matplotlib(tmp_path):
    fake = tmp_path / "fake/matplotlib"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise SystemExit('Matplotlib was imported')")
    # Labels are checked against the font, which is a file of Matplotlib's.
    (fake / "mpl-data").symlink_to(Path(find_spec("matplotlib").origin).parent / "mpl-data")
    folder = copy_project(tmp_path)
    code, said = run(folder, "-n", environment={"PYTHONPATH": str(tmp_path / "fake")})
    assert code == 0 and planned_jobs(said)["plot_diagnostics"], said


@pytest.mark.promise("any-path")
@pytest.mark.parametrize("name", ["$HOME", "it's"])
def test_a_path_that_no_cluster_job_can_have_is_refused_before_a_job_is_sent(name, tmp_path):
    folder = copy_project(tmp_path)
    target = "results/train/paper/dense/seed_0/results_dense.json"
    code, said = run(folder, target, "--executor", "slurm", "--jobs", "1", "--directory", name)
    assert code == 1 and "Traceback" not in said, said
    assert f"{folder / name}: found " in said and "cannot be in the command of a cluster job" in said
    assert not (folder / name / "results/logs").exists()
