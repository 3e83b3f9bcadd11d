"""The study: config.yaml read, checked as a whole, and resolved into distinct runs.

Nothing here imports torch, so a mistake is told before anything heavy starts.
"""

import difflib
import math
import re
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import jsonschema
import yaml

from afmp.errors import AfmpError
from afmp.records import schema

# Names that no study's figure may take: figures, targets and modules that the workflow has already.
TAKEN_FIGURES = (
    "scalability_results", "notebook_vs_paper", "diagnostics", "style", "wording", "study_panels",
    "all", "download", "tables", "report", "train", "aggregate",
)  # fmt: skip


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
    refuse_duplicate_keys(path)
    return resolve_study(yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})


def refuse_duplicate_keys(path: Path | str) -> None:
    """Raise AfmpError if a mapping of the YAML file names a key twice: YAML would silently keep the last."""
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise AfmpError(f"{path}: no such file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AfmpError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    pending = [(root, "")]
    while pending:
        node, where = pending.pop()
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name = f"{where}/{key.value}".lstrip("/")
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise AfmpError(f"{path}: {name} stands twice, in lines {lines[key.value]} and {line}; keep one.")
                lines[key.value] = line
                pending.append((value, name))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, f"{where}/{index}") for index, item in enumerate(node.value))


def resolve_study(config: dict) -> Study:
    """Check a configuration and resolve its runs.

    Raises AfmpError naming key, value and what is allowed for: a key that the schema does not know or misses, a value
    of the wrong type or out of range, and what no schema sees (a patch size that does not divide the image size, one
    run name with two configurations, a reference that is no run of its study, a dataset folder that is not there).
    """
    config = _numbers_with_exponents(deepcopy(dict(config)))
    _check_schema(config)
    dataset = DatasetConfig(**config["dataset"])
    _check_dataset(dataset)
    runs: dict[str, RunConfig] = {}
    named_in: dict[str, str] = {}
    canonical: dict[RunConfig, str] = {}
    studies = []
    figures: dict[str, str] = dict.fromkeys(TAKEN_FIGURES, "the workflow itself")
    for name, table in config["studies"].items():
        where = f"studies/{name}"
        if table["figure"] in figures:
            raise AfmpError(
                f"config: {where}/figure: {table['figure']!r} is already taken by {figures[table['figure']]}; "
                "choose another name."
            )
        figures[table["figure"]] = where
        aliases: dict[str, str] = {}
        members = []
        for index, line in enumerate(table["runs"]):
            run, label = line["run"], line.get("label", line["run"])
            key = f"{where}/runs/{index}/run"
            if run in aliases:
                raise AfmpError(f"config: {key}: {run!r} names two runs of this study; give each its own name.")
            resolved = _resolve_run(config, dataset, line, key)
            if run in runs and runs[run] != resolved:
                raise AfmpError(
                    f"config: {key}: {run!r} names two different runs, here with {_difference(runs[run], resolved)} "
                    f"(the other stands in {named_in[run]}); rename one."
                )
            # Two names for one configuration: it is trained once, under the name that came first.
            aliases[run] = canonical.setdefault(resolved, run)
            if aliases[run] in [member["run"] for member in members]:
                raise AfmpError(
                    f"config: {key}: {run!r} and {aliases[run]!r} of this study are the same run; "
                    "remove one or change an override."
                )
            runs.setdefault(aliases[run], resolved)
            named_in.setdefault(run, where)
            members.append({"run": aliases[run], "label": label})
        reference = aliases.get(table["reference"])
        if reference is None:
            raise AfmpError(
                f"config: {where}/reference: {table['reference']!r} is no run of this study; "
                f"allowed: {', '.join(aliases)}."
            )
        heading = {key: table[key] for key in ("section", "title", "figure")}
        studies.append({"name": name, **heading, "reference": reference, "members": members})
    return Study(dataset, config["semantics"], config["seeds"], runs, studies, config["scalability"])


def _resolve_run(config: dict, dataset: DatasetConfig, line: dict, key: str) -> RunConfig:
    model, training = dict(config["model"]), dict(config["training"])
    for name, value in line.items():
        if name in model:
            model[name] = value
        elif name in training:
            training[name] = value
    patch_size = model["patch_size"]
    if dataset.image_size % patch_size:
        divisors = [str(d) for d in range(1, dataset.image_size + 1) if dataset.image_size % d == 0]
        where = f"{key.rsplit('/', 1)[0]}/patch_size" if "patch_size" in line else "model/patch_size"
        raise AfmpError(
            f"config: {where}: {patch_size} does not divide dataset/image_size {dataset.image_size}; "
            f"allowed: {', '.join(divisors)}."
        )
    numbers = {name: float(model[name]) for name in ("sparsity", "lambda_sparse")}
    rates = ("learning_rate", "weight_decay", "plateau_factor", "validation_fraction")
    training |= {name: float(training[name]) for name in rates}
    return RunConfig(dataset, ModelConfig(**(model | numbers)), TrainingConfig(**training))


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
    root = Path(dataset.path)
    if not (root / "train").is_dir() or not ((root / "test").is_dir() or (root / "val").is_dir()):
        raise AfmpError(
            f"config: dataset/path: {dataset.path!r} holds no train/<class>/ and test/<class>/ (or val/<class>/); "
            "give the folder that holds both."
        )


def _numbers_with_exponents(value):
    """YAML 1.1 reads 1e-3 (without a dot) as text; a person means the number."""
    if isinstance(value, dict):
        return {
            key: item if key in ("run", "label", "title", "section") else _numbers_with_exponents(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_numbers_with_exponents(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise AfmpError(f"config: found the number {value}; allowed: finite numbers.")
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value


def _check_schema(config: dict) -> None:
    errors = jsonschema.Draft202012Validator(schema("config")).iter_errors(config)
    # The outermost mistake first: a missing section explains what is wrong inside it.
    error = min(errors, key=lambda e: (len(e.absolute_path), str(e.absolute_path)), default=None)
    if error is None:
        return
    where = "/".join(map(str, error.absolute_path))
    inside = f"{where}/" if where else ""
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        known = _known_keys(error)
        unknown = next(key for key in error.instance if key not in known)
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise AfmpError(
            f"config: {inside}{unknown}: unknown key with value {error.instance[unknown]!r}{hint}; "
            f"allowed here: {', '.join(known)}."
        )
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        raise AfmpError(f"config: {inside}{missing}: missing; add it as config.yaml of the project has it.")
    raise AfmpError(f"config: {where or 'the whole file'}: found {_short(error.instance)}; allowed: {_allowed(error)}.")


def _known_keys(error) -> list[str]:
    known: list[str] = []
    pending = [error.schema]
    while pending:
        fragment = pending.pop(0)
        known.extend(fragment.get("properties", {}))
        if "$ref" in fragment:
            pending.append(schema("config")["$defs"][fragment["$ref"].rsplit("/", 1)[1]])
        pending.extend(fragment.get("allOf", []))
    return known


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(error) -> str:
    fragment = error.schema
    if "enum" in fragment:
        return ", ".join(map(str, fragment["enum"]))
    if error.validator == "uniqueItems":
        return "each value once"
    if error.validator == "propertyNames" or error.validator == "pattern":
        pattern = fragment.get("pattern") or fragment["propertyNames"]["pattern"]
        return f"names like {pattern}"
    kind = fragment.get("type", "a value")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    names = {"object": "a mapping of keys", "array": "a list", "integer": "a whole number", "boolean": "true or false"}
    parts = [names.get(kind, f"a {kind}")]
    bounds = {
        "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than",
        "minItems": "length at least", "minProperties": "entries at least", "minLength": "length at least",
        "maxLength": "length at most", "multipleOf": "a multiple of",
    }  # fmt: skip
    parts += [f"{word} {fragment[key]}" for key, word in bounds.items() if key in fragment]
    return ", ".join(parts)
