"""Provenance: the commit recorded is that of this project's own checkout, or none."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

COMMIT = "import json; from afmp.provenance import own_commit; print(json.dumps(own_commit()))"
NONE = [None, None]


def git(folder: Path, *words: str) -> str:
    person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", "-C", folder, *person, *words], check=True, capture_output=True, text=True, env=own)
    return done.stdout.strip()


def project(folder: Path) -> Path:
    """Copy the few files that provenance needs into `folder`."""
    for file in ("__init__.py", "provenance.py", "sources.py"):
        (folder / "afmp").mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / "afmp" / file, folder / "afmp")
    (folder / "Snakefile").write_text("# a workflow\n")
    return folder


def commit(folder: Path, *, everything: bool) -> str:
    """Make a repository of a folder, with a commit of everything or of one other file, and return the commit."""
    git(folder, "init", "-q")
    (folder / "notes.txt").write_text("mine")
    git(folder, "add", "." if everything else "notes.txt")
    git(folder, "commit", "-qm", "first")
    return git(folder, "rev-parse", "HEAD")


def recorded(folder: Path, **environment: str) -> list:
    """Return the commit that the copy of the project in `folder` records, and whether it has changes."""
    command = [sys.executable, "-B", "-c", COMMIT]
    done = subprocess.run(
        command, cwd="/", env=os.environ | {"PYTHONPATH": str(folder)} | environment, capture_output=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.promise("own-commit")
@pytest.mark.parametrize("name", ["afmp-main", "site-packages", "a 'b' ü\nc"])
def test_the_commit_of_a_repository_around_the_project_is_not_recorded(name, tmp_path):
    for everything in (False, True):
        outside = tmp_path / str(everything)
        inside = project(outside / name)
        commit(outside, everything=everything)
        assert recorded(inside) == NONE


@pytest.mark.promise("own-commit")
def test_a_repository_in_the_same_folder_that_does_not_contain_the_project_is_not_recorded(tmp_path):
    commit(project(tmp_path), everything=False)
    assert recorded(tmp_path) == NONE


@pytest.mark.promise("own-commit")
def test_a_repository_that_the_environment_names_is_not_recorded(tmp_path):
    other, alone, own = tmp_path / "other", project(tmp_path / "alone"), project(tmp_path / "own ü")
    project(other)
    commit(other, everything=True)
    mine = commit(own, everything=True)
    named = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(alone), "GIT_INDEX_FILE": str(other / ".git/index")}
    configured = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.worktree", "GIT_CONFIG_VALUE_0": str(alone)}
    for environment in (
        named,
        named | {"GIT_WORK_TREE": str(own)},
        {"GIT_COMMON_DIR": str(other / ".git")},
        configured,
    ):
        assert recorded(alone, **environment) == NONE
        assert recorded(own, **environment) == [mine, False]


@pytest.mark.promise("own-commit")
def test_a_checkout_and_a_worktree_of_the_project_record_their_own_commit(tmp_path):
    own = project(tmp_path / "own")
    first = commit(own, everything=True)
    assert recorded(own) == [first, False]
    git(own, "worktree", "add", "-q", str(tmp_path / "worktree"))
    git(own, "commit", "-q", "--allow-empty", "-m", "second")
    (own / "Snakefile").write_text("# changed\n")
    assert recorded(tmp_path / "worktree") == [first, False]
    assert recorded(own) == [git(own, "rev-parse", "HEAD"), True]
    assert git(own, "rev-parse", "HEAD") != first
