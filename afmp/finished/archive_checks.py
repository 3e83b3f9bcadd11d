"""The verification of an archive: its files are those of its manifest, and its tables are computed from its records.

An archive is checked by itself: without dataset, weights or configuration of the reader. Its manifest is not signed:
who changes a file and the manifest alike is found only where a file no longer follows from the records. That the
records are those that were published, only the history of the repository says.
"""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from afmp.analysis.claims import answer_claims
from afmp.analysis.table_files import write_csv
from afmp.analysis.tables import Tables, claim_tables, run_tables, sweep_tables
from afmp.errors import AfmpError
from afmp.files import is_there
from afmp.finished.archive import BY_HAND
from afmp.finished.check import Check, NotCheckedError, guarded
from afmp.finished.expected import EXPECTED, ranges_of_records, read_expected
from afmp.finished.manifest import ADVICE, MANIFEST, checked_content, read_entries
from afmp.finished.opened_archive import OpenedArchive, opened_unchecked
from afmp.finished.verify import say_outcomes
from afmp.machine.scratch import scratch_folder
from afmp.study.claims import records_of, resolve_claims
from afmp.study.paths import (
    CLAIMS_FILE,
    CLAIMS_TABLE,
    PARAMETERS_FILE,
    RUN_TABLES,
    SWEEP_TABLES,
    scalability_file,
    table_file,
)


def verify_archive(archive: Path, *, say: Callable[[str], None] = print) -> None:
    """Check an archive. Says PASS, FAIL or SKIP per check, then every FAIL again, and the counts.

    Raises AfmpError for a folder that is no finished archive, and with the count if a check fails.
    """
    entries = read_entries(archive)
    checks = [
        Check(f"files are those of {MANIFEST}", lambda: _changed(archive, entries), archive),
        Check("no other files", lambda: _unknown(archive, entries), archive),
    ]
    try:
        opened = opened_unchecked(archive, entries)
    except AfmpError as error:
        said = str(error)
        checks.append(Check("config.yaml is the study", lambda: [said], archive))
    else:
        checks += _content_checks(opened)
    if failed := say_outcomes(checks, say):
        raise AfmpError(
            f"{archive}: {failed} of {len(checks)} checks failed; restore each file that a FAIL names, {ADVICE}, and "
            "move away what is no part of the archive. Nothing makes a deleted number again."
        )


def _changed(archive: Path, entries: dict[str, dict]) -> Iterator[str]:
    for path, expected in entries.items():
        yield from guarded(lambda path=path, expected=expected: checked_content(archive, path, expected) and (), path)


def _unknown(archive: Path, entries: dict[str, dict]) -> Iterator[str]:
    known = {*entries, MANIFEST, *BY_HAND}
    for file in sorted(archive.rglob("*")):
        path = file.relative_to(archive).as_posix()
        # Names with a dot in front are notes of programs, as in a results folder.
        if not file.name.startswith(".") and path not in known and (file.is_symlink() or not file.is_dir()):
            yield f"{file}: is no part of this archive, {MANIFEST} does not name it; move it away"


def _content_checks(opened: OpenedArchive) -> Iterator[Check]:
    study = opened.study
    yield Check("records are valid and of this study", lambda: _broken_records(opened), opened.folder)
    results = [path for path, record in opened.records.items() if record.kind == "result"]
    yield from _table_checks(opened, RUN_TABLES, results, lambda found: run_tables(found, study.studies))
    if study.scalability:
        measured = [PARAMETERS_FILE, *map(scalability_file, study.swept_semantics)]
        yield from _table_checks(opened, SWEEP_TABLES, measured, lambda found: sweep_tables(found[1:], found[0]))
    yield Check(f"table {CLAIMS_TABLE}, computed again", lambda: _claims_faults(opened), opened.folder / CLAIMS_FILE)
    yield Check(f"ranges of {EXPECTED}", lambda: _range_faults(opened), opened.folder / EXPECTED)


def _broken_records(opened: OpenedArchive) -> Iterator[str]:
    for path in opened.records:
        yield from guarded(lambda path=path: opened.read_records([path]) and (), opened.folder / path)


def _table_checks(
    opened: OpenedArchive, names: tuple[str, ...], sources: list[str], compute: Callable[[list[dict]], Tables]
) -> Iterator[Check]:
    computed: list[Tables] = []  # once for all names

    def faults(name: str) -> Iterator[str]:
        if not opened.has(table_file(name)):
            raise NotCheckedError("the archive does not have it")
        if not computed:
            computed.append(compute(list(opened.read_records(sources).values())))
        yield from _different_table(opened, name, computed[0])

    for name in names:
        where = opened.folder / table_file(name)
        yield Check(f"table {name}, computed again", lambda name=name: faults(name), where)


def _claims_faults(opened: OpenedArchive) -> Iterator[str]:
    if not opened.has(CLAIMS_FILE):
        raise NotCheckedError("the archive has no claims")
    claims = resolve_claims(opened.read_claims())
    found = opened.read_records(records_of(claims, opened.study))
    tables = claim_tables(answer_claims(claims, opened.study, list(found.values())))
    yield from _different_table(opened, CLAIMS_TABLE, tables)


def _range_faults(opened: OpenedArchive) -> Iterator[str]:
    path = opened.folder / EXPECTED
    if not is_there(path):
        raise NotCheckedError(f"there are none; `afmp expect {opened.folder}` writes them")
    if read_expected(path) != ranges_of_records(opened):
        yield f"{path}: not the ranges that the records give"


def _different_table(opened: OpenedArchive, name: str, tables: Tables) -> Iterator[str]:
    """Yield the first cell of an archived table that differs, in the columns that it shares with the computed one.

    Another release may have written it: with fewer columns, and then without a number where this one has an interval.
    """
    where = opened.folder / table_file(name)
    with scratch_folder() as scratch:
        write_csv(tables[name].rows, scratch / "table.csv")
        (header, *again) = csv.reader((scratch / "table.csv").read_text(encoding="utf-8").splitlines())
    (columns, *rows) = csv.reader(io.StringIO(opened.read_file(table_file(name)).decode(), newline="")) or [[]]
    if len(rows) != len(again):
        yield f"{where}: {len(rows)} rows, {len(again)} computed from the records"
        return
    if foreign := [column for column in columns if column not in header]:
        raise NotCheckedError(f"this release has no column {foreign[0]!r}")
    for number, (row, other) in enumerate(zip(rows, again, strict=True), 2):
        of_other = dict(zip(header, other, strict=True))
        for column, cell in zip(columns, row, strict=True):
            if cell != of_other[column] and (cell or columns == header):
                yield f"{where}: line {number}, {column}: {cell!r}, {of_other[column]!r} computed from the records"
                return
