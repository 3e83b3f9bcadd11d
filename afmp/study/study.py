"""The study: a configuration, checked as a whole and resolved into distinct runs.

Nothing here imports torch, so that a mistake is reported at once.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from afmp.errors import AfmpError
from afmp.study.checks import check_dataset, check_extent, check_figures, check_sweep
from afmp.study.config_file import read_config
from afmp.study.config_schema import validated
from afmp.study.labels import check_labels
from afmp.study.memory import check_study_memory
from afmp.study.run_config import DatasetConfig, RunConfig
from afmp.study.run_lines import RunLine, resolve_lines, trained_names


@dataclass(frozen=True)
class Study:
    """A checked configuration.

    `runs` maps the name of each distinct run to its configuration. `studies` is a list of plain dicts for figures and
    tables, with the keys name, section, title, figure, reference, and members (a list of {run, label}).
    """

    dataset: DatasetConfig
    semantics: list[str]
    seeds: list[int]
    runs: dict[str, RunConfig]
    studies: list[dict]
    scalability: dict


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
    scalability = config["scalability"] | {"seconds": float(config["scalability"]["seconds"])}
    check_sweep(scalability)
    check_figures(config["studies"])
    check_labels(config["studies"])
    lines = resolve_lines(config, dataset)
    names = trained_names(lines)
    runs: dict[str, RunConfig] = {}
    for line in lines:
        runs.setdefault(names[line.run], line.config)
    check_extent(runs, semantics=config["semantics"], seeds=config["seeds"])
    check_study_memory(runs, config["seeds"])
    studies = [
        _resolve_table(study, table, [line for line in lines if line.study == study], names)
        for study, table in config["studies"].items()
    ]
    return Study(dataset, config["semantics"], config["seeds"], runs, studies, scalability)


def _resolve_table(study: str, table: dict, lines: list[RunLine], names: dict[str, str]) -> dict:
    """Return one study as figures and tables read it, with the names under which its runs are trained."""
    own_names = [line.run for line in lines]
    if table["reference"] not in own_names:
        raise AfmpError(
            f"config: studies/{study}/reference: {table['reference']!r} is no run of this study; "
            f"allowed: {', '.join(own_names)}."
        )
    return {
        "name": study,
        **{key: table[key] for key in ("section", "title", "figure")},
        "reference": names[table["reference"]],
        "members": [{"run": names[line.run], "label": line.label} for line in lines],
    }
