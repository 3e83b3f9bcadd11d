"""The configuration of one run, resolved: its dataset, model and training."""

from dataclasses import MISSING, dataclass, fields

AFMP = "afmp"  # the architecture of every run that is no rival
TIMM = "timm/"  # before the name of a rival's model in timm

RIVAL_KEYS = ("patch_size", "architecture", "arguments")  # the keys of `model` that a rival reads
# What a rival has in the place of the others.
UNREAD = {
    "num_layers": 0,
    "d_model": 0,
    "is_sparse": False,
    "sparsity": 0.0,
    "lambda_sparse": 0.0,
    "use_top_down": False,
    "scaffold": "",
    "window_size": 0,
}
# What the keys of `model` with a default mean in a file that lacks them. A new default belongs only into `ModelConfig`:
# a changed value here would change the models of old files.
IF_ABSENT = {"edges_per_node": 0, "routing": "learned", "messages": True, "use_directions": True, "use_errors": True}

Scalar = bool | int | float | str


@dataclass(frozen=True)
class DatasetConfig:
    """Source and size of the images; keys as in section `dataset` of config.yaml."""

    source: str
    path: str | None
    image_size: int


@dataclass(frozen=True)
class ModelConfig:
    """The model of one run; keys as in section `model` of config.yaml. Those with a default may be absent there.

    `arguments` may be given as a mapping, and is kept as sorted pairs.
    """

    num_layers: int
    d_model: int
    patch_size: int
    is_sparse: bool
    sparsity: float
    lambda_sparse: float
    use_top_down: bool
    scaffold: str
    window_size: int
    edges_per_node: int = 0
    routing: str = "learned"
    messages: bool = True
    use_directions: bool = True
    use_errors: bool = True
    architecture: str = AFMP
    arguments: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        kept = {"arguments": tuple(sorted(dict(self.arguments).items()))}
        if self.is_rival:  # only what it reads is kept: the rest decides nothing
            optional = {field.name: field.default for field in fields(self) if field.default is not MISSING}
            kept |= UNREAD | {key: default for key, default in optional.items() if key not in RIVAL_KEYS}
        for key, value in kept.items():
            object.__setattr__(self, key, value)

    @classmethod
    def from_dict(cls, model: dict) -> "ModelConfig":
        """Return the model whose keys a result or a file of weights contains: of a rival, only those that it reads."""
        return cls(**(UNREAD if "architecture" in model else {}) | with_every_key(model))

    def to_dict(self) -> dict:
        """Return every key that the model reads, as a file of weights contains them, also those at their default."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.is_rival:
            return {key: values[key] for key in RIVAL_KEYS} | {"arguments": dict(self.arguments)}
        return {key: value for key, value in values.items() if key not in ("architecture", "arguments")}

    @property
    def is_rival(self) -> bool:
        """True for a model of timm, for which only `patch_size` and `arguments` have a meaning here."""
        return self.architecture != AFMP


@dataclass(frozen=True)
class TrainingConfig:
    """The training of one run; keys as in section `training` of config.yaml. Those with a default may be absent there.

    The defaults are the recipe of the original notebook.
    """

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
    measure_step: bool = False
    schedule: str = "plateau"
    warmup_epochs: int = 0
    label_smoothing: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    erasing_probability: float = 0.0
    ema_decay: float = 0.0
    clip_norm: float = 0.0
    decay_vectors: bool = True

    @property
    def visualized_epochs(self) -> list[int]:
        """Epochs (1-based) with diagnostics: every `visualize_every`-th and the last."""
        return [e for e in range(1, self.epochs + 1) if e % self.visualize_every == 0 or e == self.epochs]


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the numbers of one run, apart from its random seed and its semantics."""

    dataset: DatasetConfig
    model: ModelConfig
    training: TrainingConfig

    @property
    def visualized_epochs(self) -> list[int]:
        """Epochs (1-based) with diagnostics; none for a rival, which has no gates."""
        return [] if self.model.is_rival else self.training.visualized_epochs

    def to_dict(self) -> dict:
        """Return the configuration as plain JSON values, as result files contain it, without keys at their default.

        So a key that a later release adds changes no older result.
        """
        return {section.name: _plain(getattr(self, section.name)) for section in fields(self)}

    def without_places(self) -> dict:
        """Return the configuration without `dataset/path`: where images lie decides no number, their hash does."""
        return without_places(self.to_dict())

    @classmethod
    def from_dict(cls, config: dict) -> "RunConfig":
        """Return the configuration that `to_dict` was called on."""
        return cls(
            dataset=DatasetConfig(**config["dataset"]),
            model=ModelConfig.from_dict(config["model"]),
            training=TrainingConfig(**config["training"]),
        )


def _plain(section) -> dict:
    absent = IF_ABSENT if isinstance(section, ModelConfig) else {}
    values = {
        field.name: (getattr(section, field.name), absent.get(field.name, field.default)) for field in fields(section)
    }
    plain = {name: value for name, (value, default) in values.items() if value != default}
    if isinstance(section, ModelConfig) and section.is_rival:
        plain = {key: plain[key] for key in RIVAL_KEYS if key in plain}
    return plain | ({"arguments": dict(plain["arguments"])} if "arguments" in plain else {})


def with_every_key(model: dict) -> dict:
    """Return the keys of `model` in a result or a file of weights, with those that older files lack."""
    return ({"arguments": {}} if "architecture" in model else IF_ABSENT) | model


def without_places(config: dict) -> dict:
    """Return the configuration of a result without `dataset/path`, as `RunConfig.without_places` does."""
    return config | {"dataset": config["dataset"] | {"path": None}}
