"""Limits of a device: values that exist on CUDA only, and the shorter sweep that ends in time without CUDA."""

from collections.abc import Sequence
from dataclasses import replace

from afmp.benchmark.settings import SweepSettings
from afmp.errors import AfmpError
from afmp.study.cuda_only import CUDA_ONLY

LARGEST_RESOLUTION_WITHOUT_CUDA = 224  # pixels


def missing_on(machine: dict, **lists: Sequence[str]) -> list[str]:
    """Return a sentence for each value that exists on CUDA devices only, if `machine` has another device.

    machine: of `measurement.describe_device`. lists: values of `precision` and `execution`.
    """
    device_type = machine["device"]["type"]
    return [
        f"{key}: {value!r} found; {CUDA_ONLY[value]} on CUDA devices only, and the device is {device_type}."
        for key, values in lists.items()
        for value in values
        if value in CUDA_ONLY and device_type != "cuda"
    ]


def fit_to_device(
    settings: SweepSettings, machine: dict, *, part_of: Sequence[int]
) -> tuple[SweepSettings, list[tuple[int, int]], list[str]]:
    """Return the part of a sweep that the device can measure: settings, (resolution, batch size) pairs, and skips.

    part_of: all resolutions of the whole sweep. A pair that would need days there is skipped here too, so no pair may
    remain. Raises AfmpError if values exist on CUDA only and are not to be skipped, or are the only ones.
    """
    if machine["device"]["type"] == "cuda":
        return settings, settings.sizes, []
    skipped = missing_on(machine, precision=settings.precision, execution=settings.execution)
    precision, execution = (
        tuple(value for value in values if value not in CUDA_ONLY)
        for values in (settings.precision, settings.execution)
    )
    if skipped and not (settings.skip_impossible and precision and execution):
        raise AfmpError(skipped[0])
    sizes = settings.sizes
    if settings.skip_impossible:
        every = tuple(part_of or settings.resolutions)
        resolutions = tuple(r for r in every if r <= LARGEST_RESOLUTION_WITHOUT_CUDA) or every[:1]
        short_precision = tuple(value for value in precision if value == "fp32") or precision[:1]
        short_execution = tuple(value for value in execution if value == "eager") or execution[:1]
        if (resolutions, short_precision, short_execution) != (every, precision, execution):
            skipped.append(
                f"Skipped, because the device is {machine['device']['type']} and they would take days: resolutions "
                f"above {LARGEST_RESOLUTION_WITHOUT_CUDA} px, and precision and execution other than "
                f"{short_precision[0]} and {short_execution[0]}; `afmp benchmark sweep` measures them."
            )
        precision, execution = short_precision, short_execution
        sizes = [(resolution, batch_size) for resolution, batch_size in sizes if resolution in resolutions]
    return replace(settings, precision=precision, execution=execution), sizes, skipped
