"""The study: config.yaml read, checked as a whole, and resolved into distinct runs.

Nothing here imports torch, so a mistake is told before anything heavy starts.
"""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from afmp.errors import AfmpError
from afmp.study.config_file import read_config
from afmp.study.config_schema import validated

# Names that no study's figure may take: rules and targets of the workflow, and modules beside the figures.
TAKEN_FIGURES = (
    "all", "download", "tables", "prepare_data", "train", "aggregate", "benchmark_resolution", "benchmark_scalability",
    "count_parameters", "tabulate_scalability", "report", "scalability_results", "scalability_fits",
    "notebook_vs_paper", "archive", "figures_from_archive", "verify", "diagnostics", "catalogue", "parts",
)  # fmt: skip

# Values of the sweep's lists that other devices do not have.
CUDA_ONLY = ("tf32", "graph", "compiled_graph")


@dataclass(frozen=True)
class DatasetConfig:
    """Where the images come from; keys as in config.yaml, section `dataset`."""

    source: str
    path: str | None
    image_size: int


@dataclass(frozen=True)
class ModelConfig:
    """The model of one run; keys as in config.yaml, section `model`."""

    num_layers: int
    d_model: int
    patch_size: int
    is_sparse: bool
    sparsity: float
    lambda_sparse: float
    use_top_down: bool
    scaffold: str
    window_size: int


@dataclass(frozen=True)
class TrainingConfig:
    """The training of one run; keys as in config.yaml, section `training`."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    plateau_patience: int
    plateau_factor: float
    validation_fraction: float
    crop_padding: int
    horizontal_flip: bool
    precision: str
    device: str
    visualize_every: int

    @property
    def visualized_epochs(self) -> list[int]:
        """Epochs (1-based) with diagnostics: every `visualize_every` and the last."""
        return [e for e in range(1, self.epochs + 1) if e % self.visualize_every == 0 or e == self.epochs]


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the numbers of one run, but for its seed and semantics."""

    dataset: DatasetConfig
    model: ModelConfig
    training: TrainingConfig

    def to_dict(self) -> dict:
        """The resolved configuration as plain JSON values, as result files carry it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: dict) -> "RunConfig":
        """The inverse of `to_dict`."""
        return cls(
            dataset=DatasetConfig(**config["dataset"]),
            model=ModelConfig(**config["model"]),
            training=TrainingConfig(**config["training"]),
        )


@dataclass(frozen=True)
class Study:
    """A checked config.yaml.

    `runs` maps the name of each distinct run to its configuration. `studies` holds, for each study, the plain dict that
    figures and tables read: name, section, title, figure, reference, members (a list of {run, label}).
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
    """Check a configuration and resolve its runs.

    Raises AfmpError naming key, value and what is allowed, for what breaks the schema and for what no schema sees (a
    patch size that does not divide the image size, TF32 without CUDA, one run name with two configurations, a reference
    that is no run of its study, a dataset folder that is not there).
    """
    config = validated(config)
    path = config["dataset"]["path"]
    # The only place where ~ is resolved, so that this check, the workflow and the reader look at one folder.
    dataset = DatasetConfig(**(config["dataset"] | {"path": path and os.path.expanduser(path)}))
    _check_dataset(dataset)
    sweep = config["scalability"]
    _check_sweep(sweep)
    sweep["seconds"] = float(sweep["seconds"])
    runs: dict[str, RunConfig] = {}
    named: dict[str, tuple[RunConfig, str]] = {}  # every name, also of a run trained under another: config and study
    canonical: dict[RunConfig, str] = {}
    studies = []
    spelled: dict[str, str] = {}  # names of runs without regard to case
    figures: dict[str, str] = dict.fromkeys(TAKEN_FIGURES, "the workflow itself")
    for name, table in config["studies"].items():
        where = f"studies/{name}"
        _check_figure(table["figure"], figures, where=where)
        figures[table["figure"]] = where
        aliases: dict[str, str] = {}
        members = []
        for index, line in enumerate(table["runs"]):
            run, label = line["run"], line.get("label", line["run"])
            key = f"{where}/runs/{index}/run"
            if run in aliases:
                raise AfmpError(f"config: {key}: {run!r} names two runs of this study; give each its own name.")
            if label in [member["label"] for member in members]:
                raise AfmpError(
                    f"config: run {run!r}, {where}/runs/{index}/label: {label!r} stands for two runs of this study; "
                    "the figure could not tell them apart, give each its own label."
                )
            if spelled.setdefault(run.lower(), run) != run:
                raise AfmpError(
                    f"config: {key}: {run!r} differs from the run {spelled[run.lower()]!r} by case alone, and would "
                    "share its folder on many disks; rename one."
                )
            resolved = _resolve_run(config, dataset, line, key.removesuffix("/run"))
            first, first_where = named.setdefault(run, (resolved, where))
            if _effective(first) != _effective(resolved):
                raise AfmpError(
                    f"config: {key}: {run!r} names two different runs, here with {_difference(first, resolved)} "
                    f"(the other stands in {first_where}); rename one."
                )
            # Two names for one computation: it is trained once, under the name that came first.
            aliases[run] = canonical.setdefault(_effective(resolved), run)
            if aliases[run] in [member["run"] for member in members]:
                raise AfmpError(
                    f"config: {key}: {run!r} and {aliases[run]!r} of this study are the same run; "
                    "remove one or change an override."
                )
            runs.setdefault(aliases[run], resolved)
            members.append({"run": aliases[run], "label": label})
        reference = aliases.get(table["reference"])
        if reference is None:
            raise AfmpError(
                f"config: {where}/reference: {table['reference']!r} is no run of this study; "
                f"allowed: {', '.join(aliases)}."
            )
        heading = {key: table[key] for key in ("section", "title", "figure")}
        studies.append({"name": name, **heading, "reference": reference, "members": members})
    return Study(dataset, config["semantics"], config["seeds"], runs, studies, sweep)


def _resolve_run(config: dict, dataset: DatasetConfig, line: dict, where: str) -> RunConfig:
    sections = {"model": dict(config["model"]), "training": dict(config["training"])}
    keys = {name: f"{section}/{name}" for section, values in sections.items() for name in values}
    for values in sections.values():
        overrides = {name: line[name] for name in values if name in line}
        values.update(overrides)
        keys |= {name: f"{where}/{name}" for name in overrides}

    def named(key: str) -> str:
        """A key of this line leads with the name of its run; one of the sections is that of many."""
        return f"run {line['run']!r}, {keys[key]}" if key in line else keys[key]

    model, training = sections["model"], sections["training"]
    patch_size = model["patch_size"]
    if dataset.image_size % patch_size:
        divisors = [str(d) for d in range(1, dataset.image_size + 1) if dataset.image_size % d == 0]
        raise AfmpError(
            f"config: {named('patch_size')}: {patch_size} does not divide dataset/image_size {dataset.image_size}; "
            f"allowed: {', '.join(divisors)}."
        )
    if training["precision"] == "tf32" and training["device"] in ("cpu", "mps"):
        raise AfmpError(
            f"config: {named('precision')}: 'tf32' exists on CUDA devices only, but {keys['device']} is "
            f"{training['device']!r}; allowed with tf32: device cuda or auto."
        )
    numbers = {name: float(model[name]) for name in ("sparsity", "lambda_sparse")}
    rates = ("learning_rate", "weight_decay", "plateau_factor", "validation_fraction")
    training |= {name: float(training[name]) for name in rates}
    return RunConfig(dataset, ModelConfig(**(model | numbers)), TrainingConfig(**training))


def _effective(run: RunConfig) -> RunConfig:
    """`run` with the keys that have no effect in it set to 0, for comparisons only."""
    model = run.model
    if not model.is_sparse:
        model = replace(model, sparsity=0.0, lambda_sparse=0.0)
    if model.scaffold == "delaunay":
        model = replace(model, window_size=0)
    return replace(run, model=model)


def _difference(one: RunConfig, other: RunConfig) -> str:
    pairs = [
        f"{key} {new!r} instead of {old!r}"
        for section in ("model", "training")
        for (key, old), new in zip(
            asdict(getattr(one, section)).items(), asdict(getattr(other, section)).values(), strict=True
        )
        if old != new
    ]
    return ", ".join(pairs)


def _check_figure(figure: str, taken: dict[str, str], *, where: str) -> None:
    if figure in taken:
        raise AfmpError(f"config: {where}/figure: {figure!r} is already taken by {taken[figure]}; choose another name.")
    if figure.startswith("plot_"):
        raise AfmpError(
            f"config: {where}/figure: {figure!r} starts with plot_, as the workflow's own rules that draw do; "
            "choose another name."
        )


def _check_sweep(sweep: dict) -> None:
    # Beside others they are skipped where they do not exist; alone they would leave nothing to measure.
    for key in ("precision", "execution"):
        if sweep["device"] in ("cpu", "mps") and all(value in CUDA_ONLY for value in sweep[key]):
            raise AfmpError(
                f"config: scalability/{key}: {sweep[key]} exists on CUDA devices only, but scalability/device is "
                f"{sweep['device']!r}; allowed with it: device cuda or auto, or one more {key}."
            )


def _check_dataset(dataset: DatasetConfig) -> None:
    if dataset.source != "folder":
        if dataset.path is not None:
            raise AfmpError(
                f"config: dataset/path: {dataset.path!r} is only read by source 'folder', but dataset/source is "
                f"{dataset.source!r}; set path to null or source to folder."
            )
        return
    if dataset.path is None:
        raise AfmpError("config: dataset/path: null, but dataset/source 'folder' needs the path of an image folder.")
    # os.path and not pathlib, which raises for a path that no folder can have (too long, not allowed to look there).
    train, test, val = (os.path.isdir(os.path.join(dataset.path, split)) for split in ("train", "test", "val"))
    if not train or not (test or val):
        seen_from = "" if os.path.isabs(dataset.path) else f" in {os.getcwd()}"
        raise AfmpError(
            f"config: dataset/path: {dataset.path!r}{seen_from} holds no train/<class>/ and test/<class>/ "
            "(or val/<class>/); give the folder that holds both."
        )
