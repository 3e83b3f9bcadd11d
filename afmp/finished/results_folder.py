"""A results folder, opened as an archive is: its study and its records, read only if they are of that study."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import MissingFileError
from afmp.finished.study_records import StudyRecord, records_by_path
from afmp.study.study import Study


@dataclass(frozen=True)
class ResultsFolder:
    """A results folder and its study."""

    folder: Path
    study: Study

    @cached_property
    def records(self) -> dict[str, StudyRecord]:
        """Every record of the study, by path."""
        return records_by_path(self.study)

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
