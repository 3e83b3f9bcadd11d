"""The code that belongs to the identity of a training."""

from conftest import PROJECT

from afmp.sources import import_closure
from afmp.training.identity import NOT_NUMBERS


def test_every_excluded_file_is_one_that_training_imports():
    """A file that was renamed or is no longer imported must not stay in the list."""
    files = import_closure("afmp.training.run_training")
    imported = {path.relative_to(PROJECT / "afmp").with_suffix("").as_posix() for path in files}
    assert set(NOT_NUMBERS) <= imported and len(set(NOT_NUMBERS)) == len(NOT_NUMBERS)
    assert {"training/loop", "training/step", "model/afmp"} <= imported - set(NOT_NUMBERS)
