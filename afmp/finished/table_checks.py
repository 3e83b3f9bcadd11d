"""Checks of tables: each is computed again from the records, with all its other files."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from afmp.analysis.claims import answer_claims
from afmp.analysis.table_files import write_tables
from afmp.analysis.tables import Tables, claim_tables, run_tables, sweep_tables
from afmp.errors import AfmpError
from afmp.finished.check import Check, NotCheckedError, guarded, not_there
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.study_manifest import another_version
from afmp.finished.text_files import different_text, read_text
from afmp.machine.scratch import scratch_folder
from afmp.study.claims import records_of, resolve_claims
from afmp.study.config_file import read_config
from afmp.study.paths import (
    CLAIMS_FILE,
    CLAIMS_TABLE,
    PARAMETERS_FILE,
    RUN_TABLES,
    SWEEP_TABLES,
    files_of_table,
    scalability_file,
    table_file,
)


def table_checks(finished: FinishedStudy, drawn_with: dict[str, str]) -> Iterator[Check]:
    """Yield one check per table. drawn_with: the versions that the study's manifest records."""
    measured = [PARAMETERS_FILE, *map(scalability_file, finished.study.swept_semantics)]
    yield from _checks(
        RUN_TABLES, finished, drawn_with, finished.trained, lambda found: run_tables(found, finished.study.studies)
    )
    if finished.study.scalability:
        yield from _checks(
            SWEEP_TABLES, finished, drawn_with, measured, lambda found: sweep_tables(found[1:], found[0])
        )

    yield _claims_check(finished, drawn_with)


def _claims_check(finished: FinishedStudy, drawn_with: dict[str, str]) -> Check:
    """Return the check of the table of claims, which is computed again from the claims that lie beside it."""

    def faults() -> Iterator[str]:
        where = finished.results / CLAIMS_FILE
        content = read_config(where)
        try:
            claims = resolve_claims(content)
        except AfmpError as error:
            raise AfmpError(f"{where}: {error}") from None  # a FAIL names its file
        sources = records_of(claims, finished.study)
        (check,) = _checks(
            (CLAIMS_TABLE,),
            finished,
            drawn_with,
            sources,
            lambda found: claim_tables(answer_claims(claims, finished.study, found)),
        )
        yield from check.find_faults()

    return Check(f"table {CLAIMS_TABLE}, computed again", faults, finished.results / table_file(CLAIMS_TABLE))


def _checks(
    names: Sequence[str],
    finished: FinishedStudy,
    drawn_with: dict[str, str],
    sources: list[str],
    compute: Callable[[list[dict]], Tables],
) -> Iterator[Check]:
    """Yield the checks of the tables `names`, which `compute` makes from the contents of their sources."""
    computed: list[Tables] = []  # once for all names

    def faults(name: str) -> Iterator[str]:
        files = files_of_table(name)
        broken = [path for path in sources if finished.faults[path]]
        if broken:
            yield from not_there(finished.results / file for file in files.values())
            raise NotCheckedError(f"{len(broken)} of its {len(sources)} sources failed")
        if not computed:
            computed.append(compute([finished.contents[path] for path in sources]))
        with scratch_folder() as scratch:
            again = {key: str(scratch / file) for key, file in files.items()}
            write_tables({name: computed[0][name]}, again)
            another = another_version("pandas", drawn_with)
            for key, file in files.items():
                written = finished.results / file
                if key.endswith("_page") and another:
                    yield from not_there([written])
                    continue
                compare = _different_cell if key == name else different_text
                yield from guarded(
                    lambda one=written, key=key, compare=compare: compare(one, Path(again[key])), written
                )
            if another and f"{name}_page" in files:
                raise NotCheckedError(f"its page was written by {another}; its other files are as computed again")

    for name in names:
        where = finished.results / table_file(name)
        yield Check(f"table {name}, computed again", lambda name=name: faults(name), where)


def _different_cell(written: Path, recomputed: Path) -> Iterator[str]:
    """Yield the fault of the first cell that differs, as printed."""
    try:
        found, expected = (list(csv.reader(read_text(path).splitlines())) for path in (written, recomputed))
    except csv.Error as error:
        raise AfmpError(f"{written}: not a CSV file ({error})") from None
    if len(found) != len(expected):
        yield f"{written}: {len(found)} lines, {len(expected)} computed from the results"
        return
    for line, (cells, others) in enumerate(zip(found, expected, strict=True), 1):
        if len(cells) != len(others):
            yield f"{written}: line {line} has {len(cells)} cells, {len(others)} computed from the results"
            return
        for column, cell, other in zip(expected[0], cells, others, strict=True):
            if cell != other:
                yield f"{written}: line {line}, {column}: {cell!r}, {other!r} computed from the results"
                return
    # Quotes and line ends are no cells.
    yield from different_text(written, recomputed)
