"""A finished study, read once for all checks."""

from dataclasses import dataclass
from pathlib import Path

from afmp.errors import AfmpError
from afmp.finished.contradictions import of_record
from afmp.finished.study_records import StudyRecord, study_records
from afmp.study.study import Study


@dataclass(frozen=True)
class FinishedStudy:
    """A study and its results folder, read once for all checks. Keys are paths below the results folder."""

    study: Study
    results: Path
    records: dict[str, StudyRecord]
    contents: dict[str, dict]  # of the valid records
    faults: dict[str, list[str]]  # of every record, as sentences that name the file

    @property
    def trained(self) -> list[str]:
        """Paths of all result files."""
        return [path for path, record in self.records.items() if record.kind == "result"]


def read_finished_study(study: Study, results: Path) -> FinishedStudy:
    """Read every record of a study, and collect its faults."""
    records = {record.path: record for record in study_records(study)}
    contents, faults = {}, {}
    for path, record in records.items():
        try:
            contents[path] = record.read(results)
            faults[path] = [f"{results / path}: {fault}" for fault in of_record(contents[path], record, study)]
        except AfmpError as error:
            faults[path] = [str(error)]
    return FinishedStudy(study, results, records, contents, faults)
