"""A finished study, read once for all checks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from afmp.data.dataset import PreparedDataset, load_dataset
from afmp.data.split import stratified_holdout
from afmp.finished.check import fault_of, guarded
from afmp.finished.diagnostics_contradictions import of_diagnostics
from afmp.finished.differences import differences
from afmp.finished.result_contradictions import of_result
from afmp.finished.study_records import StudyRecord, records_by_path
from afmp.finished.sweep_contradictions import of_sweep
from afmp.model.scaffold import scaffold_hash
from afmp.model.sizes import build_model
from afmp.model.stack import Model
from afmp.study.run_config import RunConfig
from afmp.study.semantics import SEMANTICS
from afmp.study.study import Study


@dataclass
class FinishedStudy:
    """A study and its results folder, read once for all checks. Keys of dicts are paths below the results folder."""

    study: Study
    results: Path
    dataset_path: Path
    records: dict[str, StudyRecord] = field(default_factory=dict)
    contents: dict[str, dict] = field(default_factory=dict)  # of the valid records
    faults: dict[str, list[str]] = field(default_factory=dict)  # of every record, as sentences that name the file

    def __post_init__(self) -> None:
        self._models: dict[tuple[str, str], Model] = {}
        self._expectations: dict[tuple[str, str], dict] = {}
        self.records = records_by_path(self.study)
        for path in self.records:
            self.faults[path] = list(guarded(lambda path=path: self._read(path), self.results / path))

    @property
    def trained(self) -> list[str]:
        """Paths of all result files."""
        return [path for path, record in self.records.items() if record.kind == "result"]

    def faults_of(self, paths: list[str]) -> list[str]:
        """Return the faults of some records."""
        return [fault for path in paths for fault in self.faults[path]]

    @cached_property
    def dataset(self) -> PreparedDataset | str:
        """The prepared dataset, or the reason why it cannot be loaded."""
        try:
            return load_dataset(self.dataset_path)
        except Exception as error:
            return fault_of(error, self.dataset_path)

    @property
    def data(self) -> PreparedDataset | None:
        """The prepared dataset, or None."""
        return None if isinstance(self.dataset, str) else self.dataset

    def model(self, semantics: str, run: str) -> Model:
        """Return the untrained model of a run. Without a dataset it has one class, and all but its readout is right."""
        if (semantics, run) not in self._models:
            num_classes = self.data.num_classes if self.data else 1
            model = build_model(self.study.runs[run], semantics=semantics, num_classes=num_classes)
            self._models[semantics, run] = model
        return self._models[semantics, run]

    def _read(self, path: str) -> Iterator[str]:
        record = self.records[path]
        content = record.read(self.results)
        self.contents[path] = content
        yield from (f"{self.results / path}: {fault}" for fault in self._contradictions(content, record))

    def _contradictions(self, content: dict, record: StudyRecord) -> Iterator[str]:
        yield from differences(content, record.about, "its path says")
        match record.kind:
            case "result":
                expected = self._expected(record.about["semantics"], record.about["run"])
                yield from of_result(content, self._config(record), expected)
            case "diagnostics":
                model = self.model(record.about["semantics"], record.about["run"])
                yield from of_diagnostics(content, self._config(record), model)
            case "scalability":
                yield from of_sweep(content, self.study.scalability)
            case "parameters":
                expected = {"num_classes": self.study.scalability["num_classes"]}
                yield from differences(content, expected, "the study says")

    def _config(self, record: StudyRecord) -> RunConfig:
        return self.study.runs[record.about["run"]]

    def _expected(self, semantics: str, run: str) -> dict:
        """Return what the model and the prepared dataset say about each result of a run, by section."""
        if (semantics, run) not in self._expectations:
            model, dataset = self.model(semantics, run), {}
            expected = {"scaffold_hash": scaffold_hash(model.static_positions, model.edge_index)}
            if self.data is not None:
                expected["num_parameters"] = sum(parameter.numel() for parameter in model.parameters())
                dataset = self._counted(semantics, self.study.runs[run].training.validation_fraction)
            self._expectations[semantics, run] = {"model": expected, "dataset": dataset}
        return self._expectations[semantics, run]

    def _counted(self, semantics: str, fraction: float) -> dict:
        data = self.data
        num_train, num_val = len(data.train_labels), len(data.test_labels)
        if not SEMANTICS[semantics].validates_on_test:
            num_train, num_val = map(len, stratified_holdout(data.train_labels, fraction))
        counted = {
            "num_classes": data.num_classes,
            "num_train": num_train,
            "num_val": num_val,
            "num_test": len(data.test_labels),
        }
        # The name of an image folder is where the images lie and not what they are.
        source = self.study.dataset.source
        return counted | ({} if source == "folder" else {"name": source})
