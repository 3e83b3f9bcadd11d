"""The study: a configuration, checked as a whole and resolved into distinct runs.

Nothing here imports torch, so that a mistake is reported at once.
"""

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from afmp.errors import AfmpError
from afmp.study.checks import check_dataset, check_extent, check_figures, check_sweep
from afmp.study.config_file import read_config
from afmp.study.config_schema import did_you_mean, validated
from afmp.study.labels import check_labels
from afmp.study.memory import check_study_memory
from afmp.study.paths import SWEEP_TABLES, TABLES
from afmp.study.run_config import DatasetConfig, RunConfig
from afmp.study.run_lines import RunLine, model_of, resolve_lines, trained_names
from afmp.study.semantics import RIVAL, trainings

SWEPT_MODELS = ["afmp_small", "deit_tiny"]  # of a sweep that does not list its models: those that the paper compares


@dataclass(frozen=True)
class Study:
    """A checked configuration.

    `semantics` are those of the sweep, and of every study that does not name its own. `runs` maps the name of each
    distinct run to its configuration. `studies` is a list of plain dicts for figures and tables, with the keys name,
    section, title, figure, semantics, reference, and members (a list of {run, label}; of a rival, also its semantics).
    `scalability` is None without a sweep. `other_names` maps each name of a run that has the settings of an earlier run
    to the name of that run, under which it is trained. `tensorboard` says whether trainings write scalars for
    TensorBoard.
    """

    dataset: DatasetConfig
    semantics: list[str]
    seeds: list[int]
    runs: dict[str, RunConfig]
    studies: list[dict]
    scalability: dict | None
    other_names: dict[str, str] = field(default_factory=dict)
    tensorboard: bool = False

    @property
    def trainings(self) -> list[tuple[str, str]]:
        """Every distinct (semantics, run) of the studies, in the order of semantics and runs."""
        return trainings(self.studies, self.runs, self.semantics)

    @property
    def models(self) -> list[dict]:
        """Every distinct model that is trained, as {run, semantics, labels, config}: run and config of the first run.

        `config` is plain JSON values. `labels` are those of all runs that have the model, each in its first study.
        """
        label: dict[str, str] = {}
        for member in (member for study in self.studies for member in study["members"]):
            label.setdefault(member["run"], member["label"])
        models: dict[tuple, dict] = {}
        for semantics, run in self.trainings:
            config = self.runs[run]
            first = {"run": run, "semantics": semantics, "labels": [], "config": config.without_places()}
            models.setdefault((semantics, model_of(config)), first)["labels"].append(label[run])
        return list(models.values())

    @property
    def swept_semantics(self) -> list[str]:
        """The semantics of the sweep; none without a sweep."""
        return self.semantics if self.scalability else []

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables of the study."""
        return tuple(table for table in TABLES if self.scalability or table not in SWEEP_TABLES)

    def to_dict(self) -> dict:
        """Return the study as plain JSON values, as an archive contains it."""
        # As in a run's configuration: what an older study does not say, because there was no choice, is not said here.
        sweep = self.scalability and {
            key: value for key, value in self.scalability.items() if key != "models" or value != SWEPT_MODELS
        }
        studies = [
            {key: value for key, value in study.items() if key != "semantics" or value != self.semantics}
            for study in self.studies
        ]
        not_computed = ("other_names", "tensorboard")  # they change no number
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in not_computed} | {
            "dataset": asdict(self.dataset),
            "runs": {name: run.to_dict() for name, run in self.runs.items()},
            "studies": studies,
            "scalability": sweep,
        }


def read_study(path: Path | str) -> Study:
    """Read and resolve one configuration file. Raises AfmpError with the key, the value and what is allowed."""
    return resolve_study(read_config(path))


def resolve_study(config: dict) -> Study:
    """Check a configuration and resolve its runs. Raises AfmpError with the key, the value and what is allowed."""
    config = validated(config)
    path = config["dataset"]["path"]
    # The only place that resolves ~, so that the check, the workflow and the reader use the same folder.
    dataset = DatasetConfig(**(config["dataset"] | {"path": path and os.path.expanduser(path)}))
    check_dataset(dataset)
    return _resolved(config, dataset)


def resolve_elsewhere(config: dict) -> Study:
    """Resolve the study of another machine: as `resolve_study`, but ~ stays, and no image folder is looked for."""
    config = validated(config)
    return _resolved(config, DatasetConfig(**config["dataset"]))


def _resolved(config: dict, dataset: DatasetConfig) -> Study:
    scalability = None
    if config["scalability"]:
        sweep = {"models": SWEPT_MODELS} | config["scalability"]
        scalability = sweep | {"seconds": float(sweep["seconds"])}
        check_sweep(scalability)
    check_figures(config["studies"])
    check_labels(config["studies"])
    lines = resolve_lines(config, dataset)
    names = trained_names(lines)
    runs: dict[str, RunConfig] = {}
    for line in lines:
        runs.setdefault(names[line.run], line.config)
    studies = [
        _resolve_table(study, table, [line for line in lines if line.study == study], names, config["semantics"])
        for study, table in config["studies"].items()
    ]
    check_extent(runs, trainings(studies, runs, config["semantics"]), seeds=config["seeds"])
    check_study_memory(runs, config["seeds"])
    other_names = {name: trained for name, trained in names.items() if name != trained}
    tensorboard = config["training"].get("tensorboard", False)
    return Study(dataset, config["semantics"], config["seeds"], runs, studies, scalability, other_names, tensorboard)


def _resolve_table(study: str, table: dict, lines: list[RunLine], names: dict[str, str], semantics: list[str]) -> dict:
    """Return one study as figures and tables read it, with the names under which its runs are trained."""
    own_names = [line.run for line in lines]
    if table["reference"] not in own_names:
        raise AfmpError(
            f"config: studies/{study}/reference: {table['reference']!r} is no run of this study"
            f"{did_you_mean(table['reference'], own_names)}; allowed: {', '.join(own_names)}."
        )
    for line in lines:
        others = [name for name in own_names if name != line.run]
        if line.compare_with is not None and line.compare_with not in others:
            raise AfmpError(
                f"config: run {line.run!r}, {line.where}/compare_with: {line.compare_with!r} is no other run of this "
                f"study{did_you_mean(line.compare_with, others)}; allowed: {', '.join(others)}."
            )
    return {
        "name": study,
        **{key: table[key] for key in ("section", "title", "figure")},
        "semantics": table.get("semantics", semantics),
        "reference": names[table["reference"]],
        "members": [
            {"run": names[line.run], "label": line.label}
            | ({"semantics": RIVAL} if line.config.model.is_rival else {})
            | ({"compare_with": names[line.compare_with]} if line.compare_with else {})
            for line in lines
        ],
    }
