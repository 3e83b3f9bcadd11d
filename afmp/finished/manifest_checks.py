"""Checks of a results folder against the manifest of its study, and for files that no study knows."""

import os
from collections.abc import Iterator
from pathlib import Path

from afmp.files import open_plain
from afmp.finished.check import Check, NotCheckedError, guarded
from afmp.finished.study_files import study_files
from afmp.finished.study_manifest import file_entry
from afmp.records import read_manifest
from afmp.study.paths import (
    BENCHMARKS,
    CHECKPOINTS,
    CLAIMS_FILE,
    CLAIMS_FROM_ARCHIVE,
    CLAIMS_TABLE,
    DOWNLOAD_FOLDER,
    FIGURES_FROM_ARCHIVE,
    FIRST_PAGE_FILE,
    FOLDER_DIGEST_FILE,
    LOGS,
    MANIFEST_FILE,
    PAGE_FROM_ARCHIVE,
    REPORT_FILE,
    SET_ASIDE,
    SNAKEMAKE_METADATA,
    TABLES_FROM_ARCHIVE,
    TENSORBOARD,
    files_of_table,
)
from afmp.study.study import Study

# What lies beside the files of a study. Nothing of it is a number, a figure or a table.
BESIDE = (
    *(DOWNLOAD_FOLDER, CHECKPOINTS, LOGS, BENCHMARKS, FIGURES_FROM_ARCHIVE, CLAIMS_FROM_ARCHIVE, SET_ASIDE),
    *(SNAKEMAKE_METADATA, FOLDER_DIGEST_FILE, REPORT_FILE, FIRST_PAGE_FILE, MANIFEST_FILE),
    *(PAGE_FROM_ARCHIVE, TABLES_FROM_ARCHIVE, TENSORBOARD, "README.md"),
)

# They are answered without the rest of the study, and the manifest is of the whole.
OF_CLAIMS = (CLAIMS_FILE, *files_of_table(CLAIMS_TABLE).values())
ANSWERED_LATER = (
    "if `snakemake claims` answered claims after `snakemake all`, do not delete it: `snakemake all` writes the "
    "manifest again"
)


def manifest_check(study: Study, results: Path) -> Check:
    """Return the check of all files against the manifest."""
    return Check("files are those of the manifest", lambda: _changed(study, results), results / MANIFEST_FILE)


def other_files_check(study: Study, results: Path) -> Check:
    """Return the check for files that the study does not know, such as those of a run that was removed from it."""
    return Check("no other files", lambda: _unknown(study, results), results)


def _changed(study: Study, results: Path) -> Iterator[str]:
    entries = read_manifest(results / MANIFEST_FILE)["files"]
    for path in study_files(study):
        file = results / path
        if path not in entries:
            yield f"{file}: the manifest lacks it; `snakemake all` writes the manifest again"
            continue
        faults = guarded(lambda file=file, path=path: _different_entry(file, entries[path]), file)
        if path in OF_CLAIMS:
            faults = (f"{fault}; {ANSWERED_LATER}" for fault in faults)
        yield from faults


def _different_entry(file: Path, recorded: dict) -> Iterator[str]:
    # The size first: a file of a million times the size is not read.
    if _size(file) != recorded["bytes"] or file_entry(file) != recorded:
        yield f"{file}: changed since the study finished: it is not the file that the manifest names"


def _size(path: Path) -> int:
    with open_plain(path) as file:
        return os.fstat(file.fileno()).st_size


def _unknown(study: Study, results: Path) -> Iterator[str]:
    """Yield the files and folders that are no part of the study, such as a run that was trained and is not shown."""
    known = {*study_files(study), *BESIDE}
    folders = {str(parent) for path in known for parent in Path(path).parents} - {"."}
    if not results.is_dir():
        raise NotCheckedError("there is no such folder")
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(results / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{folder}/{entry.name}".lstrip("/")
                # Names with a dot in front are notes of programs: of Snakemake, of a file system, of a killed writer.
                if path in known or entry.name.startswith("."):
                    continue
                if path in folders and entry.is_dir():
                    pending.append(path)
                else:
                    yield f"{results / path}: is no part of this study; move it away, or add its run"
