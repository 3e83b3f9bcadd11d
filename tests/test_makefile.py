"""`make setup`: it says what it does before each step that takes long."""

import shutil
import subprocess
from pathlib import Path

from conftest import PROJECT

# A Python that makes no environment and installs nothing.
PYTHON = """#!/bin/sh
echo "runs $*"
mkdir -p .venv/bin
test -e .venv/bin/python || cp "$0" .venv/bin/python
"""


def test_setup_says_what_it_does_and_how_long_before_each_step(tmp_path: Path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "--silent", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    _, first, venv, second, pip = done.stdout.splitlines()
    assert "step 1 of 2: " in first and "seconds" in first and venv == "runs -m venv .venv"
    assert "step 2 of 2: " in second and "minutes" in second and pip.startswith("runs -m pip install --quiet")
    again = subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "step" not in again.stdout
