"""The lines of a study's table, resolved: one line of config.yaml is one run with its configuration.

Several lines may be one run: a run that two studies name, or two names for one configuration. It is trained once.
"""

from dataclasses import MISSING, dataclass, fields, replace

from afmp.errors import AfmpError
from afmp.study.config_schema import did_you_mean
from afmp.study.run_config import AFMP, RIVAL_KEYS, DatasetConfig, ModelConfig, RunConfig, TrainingConfig
from afmp.study.semantics import SEMANTICS

SECTIONS = {"model": ModelConfig, "training": TrainingConfig}  # of config.yaml, with the keys that a line may change
SHOWN_DIFFERENCES = 6  # between two runs of one name, in a message


@dataclass(frozen=True)
class RunLine:
    """One line of a study's table: the place of its key `run`, and its resolved configuration."""

    where: str
    study: str
    run: str
    label: str
    config: RunConfig
    compare_with: str | None = None


def resolve_lines(config: dict, dataset: DatasetConfig) -> list[RunLine]:
    """Return every line of every study, for a configuration that follows the schema.

    Raises AfmpError for two runs with one name, two runs of a study with one label or one configuration, and for values
    that do not fit together.
    """
    for study, table in config["studies"].items():
        _check_without(study, table)
    lines = [
        RunLine(
            where=f"studies/{study}/runs/{index}",
            study=study,
            run=line["run"],
            label=line.get("label", line["run"]),
            config=_resolve_run(config, dataset, study, index),
            compare_with=line.get("compare_with"),
        )
        for study, table in config["studies"].items()
        for index, line in enumerate(table["runs"])
        if line["run"] not in table.get("without", ())
    ]
    for study, table in config["studies"].items():
        own = [line for line in lines if line.study == study]
        _check_study(own)
        _check_semantics(own, table.get("semantics", config["semantics"]))
    _check_names(lines)
    return lines


def _check_without(study: str, table: dict) -> None:
    """Check that a study leaves out only runs that it has, and not all of them."""
    runs, without = [line["run"] for line in table["runs"]], table.get("without", [])
    for index, name in enumerate(without):
        if name not in runs:
            raise AfmpError(
                f"config: studies/{study}/without/{index}: {name!r} is no run of this study{did_you_mean(name, runs)}; "
                f"allowed: {', '.join(runs)}."
            )
    if set(runs) <= set(without):
        raise AfmpError(
            f"config: studies/{study}/without: {without} are all runs of this study; to remove the study itself, write "
            f"`studies: {{{study}: null}}` in an overlay."
        )


def trained_names(lines: list[RunLine]) -> dict[str, str]:
    """Map the name of each run to the name under which it is trained: the first name of the same computation."""
    first_name: dict[RunConfig, str] = {}
    return {line.run: first_name.setdefault(_effective(line.config), line.run) for line in lines}


def model_of(run: RunConfig) -> ModelConfig:
    """Return the model of a run, with 0 for keys that change nothing in it; only for comparisons.

    Runs of one semantics with the same model differ in their training alone, of which lambda_sparse is a part.
    """
    return replace(_effective(run).model, lambda_sparse=0.0)


def _check_study(lines: list[RunLine]) -> None:
    """Check that the lines of one study have different names, labels and configurations."""
    by_name: dict[str, RunLine] = {}
    by_label: dict[str, RunLine] = {}
    by_config: dict[RunConfig, RunLine] = {}
    for line in lines:
        if by_name.setdefault(line.run, line) is not line:
            raise AfmpError(
                f"config: {line.where}/run: {line.run!r} names two runs of this study; give each its own name."
            )
        if by_label.setdefault(line.label, line) is not line:
            raise AfmpError(
                f"config: run {line.run!r}, {line.where}/label: {line.label!r} labels two runs of this study; "
                "the figure could not tell them apart, give each its own label."
            )
        same = by_config.setdefault(_effective(line.config), line)
        if same is not line:
            raise AfmpError(
                f"config: {line.where}/run: {line.run!r} and {same.run!r} of this study are the same run; "
                "remove one or change an override."
            )


def _check_semantics(lines: list[RunLine], semantics: list[str]) -> None:
    """Check that the lines of one study set nothing that one of its semantics does not have."""
    others = [name for name in semantics if name != "refined"]
    optional = [field.name for field in fields(ModelConfig) if field.default is not MISSING]
    keys = [name for name in optional if name not in RIVAL_KEYS]
    for line in lines:
        model = line.config.model
        if model.is_rival:
            _check_rival(line, semantics)
            continue
        for key in keys if others else []:
            if getattr(model, key) != getattr(ModelConfig, key):
                raise AfmpError(
                    f"config: run {line.run!r}, {line.where}: {key} is {getattr(model, key)!r}, which only semantics "
                    f"'refined' has, but this study is also trained under {', '.join(others)}; give the study "
                    "`semantics: [refined]`."
                )
        if model.routing == "random" and not model.is_sparse:
            raise AfmpError(
                f"config: run {line.run!r}, {line.where}: routing is 'random' and is_sparse false: where every edge is "
                "kept, none is drawn; set is_sparse to true, or routing to 'learned'."
            )
        if model.routing == "none" and model.is_sparse:
            raise AfmpError(
                f"config: run {line.run!r}, {line.where}: routing is 'none' and is_sparse true: without scores no edge "
                "is better than another; set is_sparse to false."
            )


def _check_rival(line: RunLine, semantics: list[str]) -> None:
    on_test = [name for name in semantics if SEMANTICS[name].validates_on_test]
    if on_test:
        raise AfmpError(
            f"config: run {line.run!r}, {line.where}: architecture is {line.config.model.architecture!r}, a model that "
            f"chooses its best epoch on held-out images, but this study is also trained under {', '.join(on_test)}, "
            "which chooses on the test set; give the study `semantics: [paper]` or `semantics: [refined]`."
        )


def _check_names(lines: list[RunLine]) -> None:
    """Check that one name is one run in all studies, and one folder on a disk that ignores case."""
    by_name: dict[str, RunLine] = {}
    by_lower_case: dict[str, RunLine] = {}
    for line in lines:
        other = by_lower_case.setdefault(line.run.lower(), line)
        if other.run != line.run:
            raise AfmpError(
                f"config: {line.where}/run: {line.run!r} differs from the run {other.run!r} by case alone, and would "
                "share its folder on many disks; rename one."
            )
        first = by_name.setdefault(line.run, line)
        if _effective(first.config) != _effective(line.config):
            raise AfmpError(
                f"config: {line.where}/run: {line.run!r} names two different runs, here with "
                f"{_difference(first.config, line.config)} (the other is in studies/{first.study}); rename one."
            )


def _resolve_run(config: dict, dataset: DatasetConfig, study: str, index: int) -> RunConfig:
    """Return the configuration of one line: its own keys, else the study's defaults, else `model` and `training`."""
    table = config["studies"][study]
    line = table["runs"][index]
    sections, keys = {}, {}
    for section, kind in SECTIONS.items():
        # `training` also has keys of the whole study.
        of_runs = [field.name for field in fields(kind)]
        values = sections[section] = {name: value for name, value in config[section].items() if name in of_runs}
        keys |= {name: f"{section}/{name}" for name in values}
        for place, given in (("defaults", table.get("defaults", {})), (f"runs/{index}", line)):
            overrides = {field.name: given[field.name] for field in fields(kind) if field.name in given}
            values.update(overrides)
            keys |= {name: f"studies/{study}/{place}/{name}" for name in overrides}

    def named(key: str) -> str:
        """Return the place of a key, after the name of the run if this line sets the key."""
        return f"run {line['run']!r}, {keys[key]}" if key in line else keys[key]

    model, training = sections["model"], sections["training"]
    _check_architecture(
        model.setdefault("architecture", AFMP), line, f"run {line['run']!r}, studies/{study}/runs/{index}"
    )
    if model["architecture"] == AFMP:
        model["arguments"] = {}
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
    if training.get("schedule") == "cosine" and training.get("warmup_epochs", 0) >= training["epochs"]:
        raise AfmpError(
            f"config: {named('warmup_epochs')}: {training['warmup_epochs']}, but {keys['epochs']} is "
            f"{training['epochs']}; allowed with schedule 'cosine': fewer than epochs."
        )
    rates = [field.name for field in fields(TrainingConfig) if field.type is float and field.name in training]
    training |= {name: float(training[name]) for name in rates}
    return RunConfig(dataset, ModelConfig(**(model | numbers)), TrainingConfig(**training))


def _check_architecture(architecture: str, line: dict, where: str) -> None:
    """Check that a line sets only keys that its architecture has; keys that it inherits may have no effect."""
    if architecture == AFMP:
        foreign, instead = ["arguments"], "is for a model of timm; remove it, or set architecture to timm/<name>"
    else:
        foreign = [field.name for field in fields(ModelConfig) if field.name not in RIVAL_KEYS]
        instead = "is for AFMP; remove it, or set `arguments` of the model of timm"
    for name in foreign:
        if name in line:
            raise AfmpError(
                f"config: {where}/{name}: found {line[name]!r}, but architecture is {architecture!r}, and {name} "
                f"{instead}."
            )


def _effective(run: RunConfig) -> RunConfig:
    """Return `run` with 0 for keys that have no effect in it; only for comparisons."""
    model = run.model
    if model.is_rival:
        run = replace(run, training=replace(run.training, visualize_every=0))
    if not model.messages:
        model = replace(model, is_sparse=False, routing="learned", use_directions=True, use_errors=True)
    if model.routing == "none":
        model = replace(model, use_errors=True)
    if not model.is_sparse:
        model = replace(model, sparsity=0.0, lambda_sparse=0.0, edges_per_node=0)
    if model.edges_per_node:
        model = replace(model, sparsity=0.0)
    if model.scaffold == "delaunay":
        model = replace(model, window_size=0)
    training = run.training
    if training.schedule == "cosine":
        training = replace(training, plateau_patience=0, plateau_factor=0.0)
    else:
        training = replace(training, warmup_epochs=0)
    return replace(run, model=model, training=training)


def _difference(one: RunConfig, other: RunConfig) -> str:
    """Return the first few keys in which `other` differs, as words: a rival differs from a run of AFMP in all."""
    pairs = [
        f"{key} {_as_written(new)} instead of {_as_written(old)}"
        for section in ("model", "training")
        for key, old in vars(getattr(one, section)).items()
        if old != (new := getattr(getattr(other, section), key))
    ]
    more = len(pairs) - SHOWN_DIFFERENCES
    return ", ".join(pairs[:SHOWN_DIFFERENCES]) + f" and {more} more" * (more > 0)


def _as_written(value) -> str:
    return repr(dict(value) if isinstance(value, tuple) else value)
