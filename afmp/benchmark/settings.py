"""Settings of the sweep: one frozen object, validated where it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from afmp.analysis.models import MODELS
from afmp.errors import AfmpError, check_choice, check_number, check_whole_number
from afmp.study.semantics import SWEPT_SEMANTICS

PATCH_SIZE = 16  # of all models, pixels
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MODES = ("train", "inference")
EXECUTIONS = ("eager", "compiled", "reduce_overhead", "graph", "compiled_graph")
ATTENTIONS = ("fused", "plain")
TRAINED_SEMANTICS = ("paper", "refined")  # that `afmp benchmark training` measures
CHOICES = {
    "models": MODELS,
    "semantics": SWEPT_SEMANTICS,
    "precision": PRECISIONS,
    "mode": MODES,
    "execution": EXECUTIONS,
    "attention": ATTENTIONS,
}
# The largest size in the sweep of the original notebook. Above it the batch shrinks, so that the number of patches does
# not grow.
FULL_BATCH_RESOLUTION = 224


@dataclass(frozen=True, kw_only=True)
class PassSettings:
    """The passes to measure: each model at each size in every combination of the lists.

    Each list contains at least one value, and each value once. Raises AfmpError for a value that no pass can have.

    - resolutions: sides of the square images, pixels
    - batch_size: images per pass, one value per resolution
    - semantics: AFMP-Small is one more model under each; the other models are measured once
    - precision: fp32 is without TF32; bf16 and fp16 are autocast
    - mode: train (forward, loss, backward) or inference (forward without gradients, in eval mode)
    - execution: eager, compiled (torch.compile), reduce_overhead (torch.compile, mode="reduce-overhead"), graph (the
      pass as one CUDA graph made by hand), compiled_graph (compiled and graph)
    - attention: DeiT-Tiny's, either PyTorch's fused attention or plain matrix products
    - device: auto, cpu, cuda, cuda:<i> or mps
    """

    resolutions: tuple[int, ...]
    batch_size: tuple[int, ...]
    models: tuple[str, ...] = MODELS
    semantics: tuple[str, ...] = ("paper",)
    precision: tuple[str, ...] = ("fp32",)
    mode: tuple[str, ...] = ("train",)
    execution: tuple[str, ...] = ("eager",)
    attention: tuple[str, ...] = ("fused",)
    num_classes: int = 100
    device: str = "auto"

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            values = getattr(self, key)
            for value in values:
                check_choice(key, value, allowed)
            _check_distinct(key, values)
        check_whole_number("num_classes", self.num_classes)
        check_sizes(self.resolutions, self.batch_size)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Each resolution with its batch size."""
        return list(zip(self.resolutions, self.batch_size, strict=True))


@dataclass(frozen=True, kw_only=True)
class SweepSettings(PassSettings):
    """A sweep: the passes to measure, and how long each is timed.

    - warmup, repeats: at most so many untimed and timed passes per point
    - seconds: a point is done before all repeats once its timed passes took this long, but not before 5
    - skip_impossible: skip what the device lacks or would need days for, instead of raising
    """

    warmup: int = 5
    repeats: int = 30
    seconds: float = 1.0
    skip_impossible: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timing(warmup=self.warmup, repeats=self.repeats, seconds=self.seconds)


def sweep_from_config(scalability: Mapping, *, resolutions: Sequence[int], semantics: Sequence[str]) -> SweepSettings:
    """Return the sweep that section `scalability` of config.yaml describes, at these resolutions of it."""
    lists = {key: tuple(scalability[key]) for key in ("models", "precision", "mode", "execution", "attention")}
    values = {key: scalability[key] for key in ("num_classes", "device", "warmup", "repeats", "seconds")}
    return SweepSettings(
        resolutions=tuple(resolutions),
        batch_size=reduced_batch_sizes(resolutions, scalability["batch_size"]),
        semantics=tuple(semantics),
        skip_impossible=True,
        **lists,
        **values,
    )


def reduced_batch_sizes(resolutions: Sequence[int], batch_size: int) -> tuple[int, ...]:
    """Return the images per pass at each resolution (pixels).

    Up to 224 px that is `batch_size`. Above, it is as many images as have no more patches in total, and at least one.
    """
    pixels = batch_size * FULL_BATCH_RESOLUTION**2
    return tuple(batch_size if r <= FULL_BATCH_RESOLUTION else max(1, pixels // r**2) for r in resolutions)


def check_sizes(resolutions: Sequence[int], batch_size: Sequence[int]) -> None:
    """Raise AfmpError unless each resolution divides into patches, occurs once, and has a batch size."""
    _check_distinct("resolutions", resolutions)
    for resolution in resolutions:
        check_resolution(resolution)
    if len(batch_size) != len(resolutions):
        raise AfmpError(
            f"batch_size: {len(batch_size)} values found for {len(resolutions)} resolutions; "
            "allowed: one for all, or one per resolution."
        )
    for images in batch_size:
        check_whole_number("batch_size", images)


def check_resolution(resolution: int) -> None:
    """Raise AfmpError unless the resolution (pixels) is a multiple of the patch size."""
    if resolution < PATCH_SIZE or resolution % PATCH_SIZE:
        raise AfmpError(f"resolutions: {resolution} px found; allowed: multiples of the patch size, {PATCH_SIZE} px.")


def check_timing(*, warmup: int, repeats: int, seconds: float) -> None:
    """Raise AfmpError unless passes can be timed within these limits."""
    check_whole_number("warmup", warmup)
    check_whole_number("repeats", repeats)
    check_number("seconds", seconds)
    if not seconds:
        raise AfmpError("seconds is 0: allowed is a finite number above 0")


def _check_distinct(key: str, values: Sequence) -> None:
    if not values or len(set(values)) < len(values):
        raise AfmpError(f"{key}: {list(values)} found; allowed: at least one value, and each only once.")
