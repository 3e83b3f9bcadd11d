"""The records of a finished study: where each one is, what it is about, and how it is read."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from afmp.errors import AfmpError
from afmp.finished.study_difference import study_difference
from afmp.records import read_diagnostics, read_parameters, read_result, read_scalability
from afmp.study.paths import PARAMETERS_FILE, diagnostics_file, result_file, scalability_file
from afmp.study.run_config import without_places
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

    def check(self, content: dict, study: Study, *, where: Path) -> None:
        """Raise AfmpError if a valid record is about something else than its path says, or of another configuration."""
        unlike = study_difference(self.about, {key: content.get(key) for key in self.about})
        if unlike:
            raise AfmpError(f"{where}: {unlike.replace('config.yaml gives', 'its path says')}; restore the file.")
        match self.kind:
            case "result":
                config = study.runs[self.about["run"]]
                unlike = study_difference(config.without_places(), without_places(content["config"]), "config")
                epochs, said = len(content["training_history"]["val_acc"]), config.training.epochs
                if not unlike and epochs != said:
                    unlike = f"training_history has {epochs:,} epochs, but config.yaml gives {said:,}"
            case "diagnostics":
                layers = study.runs[self.about["run"]].model.num_layers
                if any({len(epoch[key]) for key in epoch} != {layers} for epoch in content["epochs"].values()):
                    unlike = f"has not {layers} layers at each epoch, as config.yaml gives"
            case "scalability":
                lists = ("models", "resolutions", "precision", "mode", "execution", "attention")
                most = math.prod(len(study.scalability[name]) for name in lists)
                if (points := len(content["points"])) > most:
                    unlike = f"has {points:,} points, but config.yaml gives at most {most:,}"
        if unlike:
            raise AfmpError(
                f"{where}: computed with another configuration: {unlike}; give the study's own, with all its overlays."
            )


def records_by_path(study: Study) -> dict[str, StudyRecord]:
    """Return every record of a study by its path."""
    return {record.path: record for record in study_records(study)}


def study_records(study: Study) -> list[StudyRecord]:
    """Return every record of a study."""
    records = [StudyRecord(PARAMETERS_FILE, "parameters")] if study.scalability else []
    for semantics in study.swept_semantics:
        records.append(StudyRecord(scalability_file(semantics), "scalability", {"semantics": semantics}))
    for semantics, run in study.trainings:
        for seed in study.seeds:
            about = {"run": run, "semantics": semantics, "seed": seed}
            records.append(StudyRecord(result_file(semantics, run, seed), "result", about))
            records.append(StudyRecord(diagnostics_file(semantics, run, seed), "diagnostics", about))
    return records
