"""The records of a finished study: where each one is, what it is about, and how it is read."""

from dataclasses import dataclass, field
from pathlib import Path

from afmp.errors import AfmpError
from afmp.records import read_diagnostics, read_parameters, read_result, read_scalability
from afmp.study.paths import PARAMETERS_FILE, diagnostics_file, result_file, scalability_file
from afmp.study.study import Study

READERS = {
    "result": read_result,
    "diagnostics": read_diagnostics,
    "scalability": read_scalability,
    "parameters": read_parameters,
}


@dataclass(frozen=True)
class StudyRecord:
    """One record: its path below a results folder, its kind in READERS, and what its content must be about."""

    path: str
    kind: str
    about: dict = field(default_factory=dict)  # of training: semantics, run, seed; of a sweep: semantics

    def read(self, results: Path) -> dict:
        """Return the content. Raises AfmpError that names the file if it is missing or not valid."""
        return READERS[self.kind](results / self.path)


def study_records(study: Study) -> list[StudyRecord]:
    """Return every record of a study."""
    records = [StudyRecord(PARAMETERS_FILE, "parameters")]
    for semantics in study.semantics:
        records.append(StudyRecord(scalability_file(semantics), "scalability", {"semantics": semantics}))
        for run in study.runs:
            for seed in study.seeds:
                about = {"run": run, "semantics": semantics, "seed": seed}
                records.append(StudyRecord(result_file(semantics, run, seed), "result", about))
                records.append(StudyRecord(diagnostics_file(semantics, run, seed), "diagnostics", about))
    return records


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


def read_finished_study(study: Study, results: Path, *, contradictions) -> FinishedStudy:
    """Read every record of a study; `contradictions(content, record, study)` yields the faults of a valid one."""
    records = {record.path: record for record in study_records(study)}
    contents, faults = {}, {}
    for path, record in records.items():
        try:
            contents[path] = record.read(results)
            faults[path] = [f"{results / path}: {fault}" for fault in contradictions(contents[path], record, study)]
        except AfmpError as error:
            faults[path] = [str(error)]
    return FinishedStudy(study, results, records, contents, faults)
