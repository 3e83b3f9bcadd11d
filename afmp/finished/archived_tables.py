"""Tables of an archived study for publication: its summary and its differences, computed from its records."""

from collections.abc import Mapping

from afmp.analysis.table_files import write_tables
from afmp.analysis.tables import run_tables
from afmp.finished.opened_archive import OpenedArchive
from afmp.study.paths import TABLES_OF_ARCHIVE, result_files


def write_archived_tables(opened: OpenedArchive, files: Mapping[str, str]) -> None:
    """Write TABLES_OF_ARCHIVE of an archived study. `files` has their paths by name, as for `write_tables`.

    Raises AfmpError for a record that is missing, not valid or of another study.
    """
    study = opened.study
    paths = [path for semantics, run in study.trainings for path in result_files(semantics, [run], study.seeds)]
    tables = run_tables(list(opened.read_records(paths).values()), study.studies)
    write_tables({name: tables[name] for name in TABLES_OF_ARCHIVE}, files)
