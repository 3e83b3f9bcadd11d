"""The verification of a finished study: every file is there and valid, no two files contradict each other, and what can
be computed again from other files is as it is computed.

Nothing is made or repaired. A missing file is a fault like any other, and each fault names its file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from afmp.errors import AfmpError, printable
from afmp.finished.check import Check, Outcome, make
from afmp.finished.depth import Depth
from afmp.finished.expected_checks import expected_checks
from afmp.finished.figure_checks import figure_checks
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.hash_checks import hash_checks
from afmp.finished.manifest_checks import manifest_check, other_files_check
from afmp.finished.other_study import other_study
from afmp.finished.study_manifest import read_drawn_with
from afmp.finished.sweep_checks import sweep_checks
from afmp.finished.table_checks import table_checks
from afmp.finished.training_checks import training_checks
from afmp.study.study import resolve_elsewhere

SHOWN_FAULTS = 5  # of one check
SHALLOW = Depth()


def verify(
    config: dict,
    *,
    results: Path | str,
    dataset: Path | str,
    archives: Sequence[Path | str],
    depth: Depth = SHALLOW,
    say: Callable[[str], None] = print,
) -> None:
    """Check the results of the study `config` in the folder `results`.

    Says PASS, FAIL or SKIP per check, then every FAIL again, and the counts.

    dataset: the prepared dataset. archives: folders of archives; the expected.yaml of each applies if it archives this
    very study. depth: what is evaluated and trained again. Raises AfmpError with the count if a check fails, and before
    any check if most results are of another study: then hardly a file is as `config` says, and none is at fault.
    """
    study = resolve_elsewhere(config)
    if other := other_study(study, results):
        raise AfmpError(
            f"{other}. Nothing was checked. If you have changed the configuration since, `snakemake all` computes what "
            "it changes."
        )
    finished = FinishedStudy(study, Path(results), Path(dataset))
    checks = [*consistency_checks(finished), *expected_checks(finished, list(map(Path, archives)))]
    if depth.deep:
        # Imported only here: what trains loads slowly.
        from afmp.finished.deep_checks import deep_checks
        from afmp.finished.spot_checks import spot_checks

        checks += [*deep_checks(finished), *spot_checks(finished, depth)]
    failed = say_outcomes(checks, say)
    if failed:
        raise AfmpError(
            f"{results}: {failed} of {len(checks)} checks failed; each FAIL names a file: delete it, unless "
            "its line says what else to do, and `snakemake all` makes it again."
        )


def consistency_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield every check of a study's own files that takes no training."""
    yield from content_checks(finished)
    yield manifest_check(finished.study, finished.results)
    yield other_files_check(finished.study, finished.results)


def content_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield the checks of what the files of a study contain: of one manifest, they always end alike."""
    drawn_with = read_drawn_with(finished.results)
    yield from hash_checks(finished)
    yield from training_checks(finished)
    yield from sweep_checks(finished)
    yield from table_checks(finished, drawn_with)
    yield from figure_checks(finished, drawn_with)


def say_outcomes(checks: Iterable[Check], say: Callable[[str], None]) -> int:
    """Make the checks, say a line each, all FAIL lines again and the counts, and return the number that failed."""
    lines: dict[str, list[str]] = {"PASS": [], "FAIL": [], "SKIP": []}
    for outcome in map(make, checks):
        line = line_of(outcome)
        say(line)
        lines[line[:4]].append(line)
    for line in lines["FAIL"]:
        say(line)
    passed, failed, skipped = map(len, lines.values())
    say(f"{passed + failed + skipped} checks: {passed} passed, {failed} failed, {skipped} could not be made")
    return failed


def line_of(outcome: Outcome) -> str:
    if outcome.faults:
        text = f"FAIL  {outcome.subject}: {_summary(outcome.faults)}"
    elif outcome.not_checked:
        text = f"SKIP  {outcome.subject}: {outcome.not_checked}"
    else:
        text = f"PASS  {outcome.subject}"
    return printable(text)


def _summary(faults: list[str]) -> str:
    more = len(faults) - SHOWN_FAULTS
    shown = [fault.rstrip(".") for fault in faults[:SHOWN_FAULTS]]
    return "; ".join(shown + [f"and {more} more"] * (more > 0))
