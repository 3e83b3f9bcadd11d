"""The installed package: it contains every subpackage and every schema, and works outside of the project."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from fnmatch import fnmatch
from importlib.util import find_spec

import pytest
from conftest import PROJECT
from workflow_runs import EPOCHS, SMALL, write_study

from afmp.records import read_result

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]

# Run outside of the project: check a configuration, read a record, and parse the command line.
USE = """
import json, sys
from pathlib import Path
import afmp
from afmp.cli import main
from afmp.records import read_parameters, write_parameters
from afmp.study.study import read_study

assert Path(afmp.__file__).is_relative_to(sys.argv[2]), afmp.__file__
assert len(read_study(sys.argv[1]).runs) > 9
models = [{"model": "deit_tiny", "description": "x", "resolution": 224, "num_parameters": 5}]
record = {"format_version": 1, "num_classes": 100, "models": models}
write_parameters("parameters.json", record)
assert read_parameters("parameters.json")["models"] == models
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""


def test_every_folder_with_modules_is_a_package_that_is_installed():
    folders = {path.parent for path in (PROJECT / "afmp").rglob("*.py")}
    assert len(folders) > 10 and all((folder / "__init__.py").is_file() for folder in folders)
    include = SETUPTOOLS["packages"]["find"]["include"]
    for folder in folders:
        name = ".".join(folder.relative_to(PROJECT).parts)
        assert any(fnmatch(name, pattern) for pattern in include), name


def test_every_file_that_is_no_module_is_installed():
    data = [path for path in (PROJECT / "afmp").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    installed = {path for pattern in SETUPTOOLS["package-data"]["afmp"] for path in (PROJECT / "afmp").glob(pattern)}
    assert len(data) > 5 and set(data) == installed


@pytest.mark.long
def test_a_wheel_works_outside_of_the_project(tmp_path, digits_file):
    isolation = [] if find_spec("setuptools") is None else ["--no-build-isolation"]
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "-w", str(tmp_path / "wheel")]
    # A copy, because setuptools also writes into the source folder.
    source = tmp_path / "source"
    shutil.copytree(PROJECT / "afmp", source / "afmp", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / file, source)
    subprocess.run([*build, str(source)], check=True)
    (wheel,) = (tmp_path / "wheel").glob("afmp-*.whl")
    # An environment with all packages of the present one but this project, whose folder stands in no path.
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (installed,) = environment.glob("lib/python3.*/site-packages")
    python = environment / "bin/python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-compile", wheel]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(install, check=True, cwd=tmp_path, env=own)
    (installed / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    found = {path.relative_to(installed) for path in (installed / "afmp").rglob("*") if path.is_file()}
    expected = {path.relative_to(source) for path in (source / "afmp").rglob("*") if path.is_file()}
    assert found == expected
    write_study(tmp_path, SMALL)
    run = ["--config", "config.yaml", "--run", "dense", "--semantics", "paper", "--seeds", "0"]
    train = [environment / "bin/afmp", "train", *run, "--dataset", digits_file, "--output", "out"]
    for command in ([python, "-c", USE, PROJECT / "config.yaml", installed], train):
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "out/seed_0/results_dense.json")
    assert len(result["training_history"]["val_acc"]) == EPOCHS and result["versions"]["git_commit"] is None


def test_the_table_of_dependencies_has_those_of_pyproject_each_with_a_purpose():
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = [re.match(r"[\w-]+", requirement)[0] for requirements in lists for requirement in requirements]
    text = (PROJECT / "docs/workflow.md").read_text(encoding="utf-8").partition("\n## Dependencies\n")[2]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \| (.*) \|$", text.partition("\n## ")[0], flags=re.MULTILINE)
    assert sorted(name for name, _, _ in rows) == sorted(set(names) - {"afmp"})
    assert all(purpose and licence for _, purpose, licence in rows)
