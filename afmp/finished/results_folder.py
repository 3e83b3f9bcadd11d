"""A results folder, opened as an archive is: its study and its records, read only if they are of that study."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import MissingFileError, is_there
from afmp.finished.manifest import MANIFEST, STUDY_FILE
from afmp.finished.opened_archive import OpenedArchive, open_archive
from afmp.finished.other_study import other_study
from afmp.finished.study_records import StudyRecord, records_by_path
from afmp.study.overlays import file_names, read_configs
from afmp.study.study import Study, resolve_elsewhere


@dataclass(frozen=True)
class ResultsFolder:
    """A results folder and its study."""

    folder: Path
    study: Study

    @cached_property
    def records(self) -> dict[str, StudyRecord]:
        """Every record of the study, by path."""
        return records_by_path(self.study)

    def has(self, path: str) -> bool:
        """Return whether a record was computed."""
        return is_there(self.folder / path)

    def read_records(self, paths: list[str]) -> dict[str, dict]:
        """Return the contents of records, by path.

        Raises AfmpError naming the first that is missing, not valid, or of another run or configuration than its path
        says. No missing record is left out: what is computed of the others would look complete.
        """
        found = {}
        for path in paths:
            record = self.records[path]
            try:
                found[path] = record.read(self.folder)
            except MissingFileError as missing:
                raise AfmpError(
                    f"{str(missing).rstrip('.')}; the study is not finished: `snakemake all`, or the figure of this "
                    "study as the target, computes what is missing."
                ) from None
            record.check(found[path], self.study, where=self.folder / path)
        return found


def is_archive(folder: Path) -> bool:
    """Return whether a folder is an archive, finished or not."""
    # By its exact name: on a disk that ignores case, the manifest of a results folder has this name too.
    return folder.is_dir() and bool({MANIFEST, STUDY_FILE, f"{STUDY_FILE}.gz"} & set(os.listdir(folder)))


def open_results(folder: Path, *, configs: Sequence[Path] | None) -> tuple[ResultsFolder | OpenedArchive, str]:
    """Open a results folder, with the files of its configuration as of `read_configs`, or an archive, with its own.

    Also returns the names of these files. Images of the study are not looked for. Raises AfmpError for what is no
    folder, for a wrong configuration or that of another study, and for an archive that is unfinished or not as it says.
    """
    if not folder.is_dir():
        raise AfmpError(f"FOLDER: {str(folder)!r} is no folder; give a results folder or an archive.")
    if is_archive(folder):
        return open_archive(folder), str(folder / "config.yaml")
    study = resolve_elsewhere(read_configs(configs))
    if other := other_study(study, folder):
        raise AfmpError(f"{other}.")
    return ResultsFolder(folder, study), file_names(configs)
