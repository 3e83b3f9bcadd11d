"""The code that belongs to the identity of a training."""

import os

import pytest
from conftest import PROJECT

from afmp.data.dataset import load_dataset
from afmp.sources import import_closure
from afmp.training.identity import NOT_NUMBERS, number_files, prepared_dataset_hash


def test_every_excluded_file_is_one_that_training_imports():
    """A file that was renamed or is no longer imported must not stay in the list."""
    files = import_closure("afmp.training.run_training")
    imported = {path.relative_to(PROJECT / "afmp").with_suffix("").as_posix() for path in files}
    assert set(NOT_NUMBERS) <= imported and len(set(NOT_NUMBERS)) == len(NOT_NUMBERS)
    assert {"training/loop", "training/step", "model/afmp"} <= imported - set(NOT_NUMBERS)


def test_the_page_lists_the_files_that_decide_a_runs_numbers():
    page = (PROJECT / "docs/workflow.md").read_text(encoding="utf-8")
    block = page.split("Files that decide the numbers of a run:")[1].split("```")[1]
    listed = {
        f"{package}/{name}"
        for package, names in (line.split(": ") for line in block.strip().splitlines())
        for name in names.split(", ")
    }
    files = {path.relative_to(PROJECT / "afmp").with_suffix("").as_posix() for path in number_files()}
    assert listed == files


@pytest.mark.timeout(30)
def test_the_hash_of_a_dataset_is_read_or_none_at_once(digits_file, tmp_path):
    assert prepared_dataset_hash(digits_file) == load_dataset(digits_file).hash
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no dataset")
    for name in ("pipe", "text", "absent", "."):
        assert prepared_dataset_hash(tmp_path / name) is None
