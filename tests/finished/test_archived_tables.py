"""What a paper takes from an archive: its tables, and how to cite it."""

import hashlib

from conftest import PROJECT

from afmp.finished.archived_tables import write_archived_tables
from afmp.finished.opened_archive import open_archive
from afmp.finished.page_provenance import archive_citation
from afmp.study.paths import TABLES_OF_ARCHIVE, files_of_table

ARCHIVE = PROJECT / "archive/2026-11-24-h200"


def test_the_tables_of_an_archive_are_its_own_and_name_what_measured_them(tmp_path):
    opened = open_archive(ARCHIVE)
    paths = [file for table in TABLES_OF_ARCHIVE for file in files_of_table(table).items()]
    write_archived_tables(opened, {name: str(tmp_path / file) for name, file in paths})
    for table in TABLES_OF_ARCHIVE:
        csv = f"aggregate/{table}.csv"
        assert (tmp_path / csv).read_bytes() == (ARCHIVE / csv).read_bytes()
        for ending in ("tex", "md"):
            text = (tmp_path / f"aggregate/{table}.{ending}").read_text().replace("\\", "")
            assert text.count("Measured on NVIDIA H200, torch 2.11.0") == len(opened.study.studies)
            assert "commit cab449e" in text


def test_an_archive_is_cited_by_folder_commit_and_hash():
    opened = open_archive(ARCHIVE)
    path = next(path for path, record in opened.records.items() if record.kind == "result")
    cited = archive_citation(opened, list(opened.read_records([path]).values()))
    manifest = hashlib.sha256((ARCHIVE / "MANIFEST.json").read_bytes()).hexdigest()
    assert ARCHIVE.name in cited and "(cab449e" in cited and manifest in cited
