"""Checks of a study against the ranges of every archive of the same configuration."""

from collections.abc import Iterator
from pathlib import Path

from afmp.files import is_there
from afmp.finished.check import Check, NotCheckedError
from afmp.finished.expected import EXPECTED, applies_to, broken_ranges, ranges_of, read_expected
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.manifest import MANIFEST
from afmp.study.paths import scalability_file


def expected_checks(finished: FinishedStudy, archives: list[Path]) -> Iterator[Check]:
    """Yield a check for every archive in the folders `archives`."""
    found = {file.parent for folder in archives for name in (EXPECTED, MANIFEST) for file in folder.glob(f"*/{name}")}
    for archive in sorted(found):
        path = archive / EXPECTED
        yield Check(f"ranges of {path}", lambda archive=archive: _range_faults(finished, archive), path)


def _range_faults(finished: FinishedStudy, archive: Path) -> Iterator[str]:
    if not applies_to(finished.study, archive):
        raise NotCheckedError("this study is not the archived one")
    path = archive / EXPECTED
    if not is_there(path):
        raise NotCheckedError(f"there are none; `afmp expect {archive}` writes them")
    expected = read_expected(path)
    if expected != ranges_of(archive):
        yield f"{path}: not the ranges that its archive gives; `afmp expect {archive}` writes them again"
    sound = {path: content for path, content in finished.contents.items() if not finished.faults[path]}
    results = [sound[path] for path in finished.trained if path in sound]
    sweeps = [sound[path] for path in map(scalability_file, finished.study.swept_semantics) if path in sound]
    yield from (f"{path}: {fault}" for fault in broken_ranges(expected, results, sweeps))
