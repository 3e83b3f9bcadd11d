"""The records of a finished study: where each one is, what it is about, and how it is read."""

from dataclasses import dataclass, field
from pathlib import Path

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
