"""The memory of training: how much it takes, said before it starts, and the error when it ran out."""

import logging
from contextlib import contextmanager

import torch

from afmp.errors import AfmpError, is_out_of_memory, one_line
from afmp.machine.memory import host_bytes
from afmp.model.rival import check_rival
from afmp.study.memory import SIZES, check_memory, in_words, training_bytes
from afmp.training.run import Run

log = logging.getLogger("afmp")


def claim_memory(run: Run, *, images: int, device: torch.device, stack_seeds: bool) -> None:
    """Log how much memory training a run takes at least. Raises AfmpError if its device does not have as much."""
    seeds, config = len(run.seed_folders), run.config
    parameters = check_rival(config) if config.model.is_rival else None
    counts = {"seeds": seeds, "together": seeds if stack_seeds else 1, "images": images}
    needed = training_bytes(config, **counts, parameters=parameters)
    log.info("%s: training %s", run, in_words(config, needed, parameters))
    on_cuda = device.type == "cuda"
    available = torch.cuda.get_device_properties(device).total_memory if on_cuda else host_bytes()
    where = f"this {'GPU' if on_cuda else 'machine'} has"
    check_memory(run.name, config, needed, available=available, where=where, parameters=parameters)
    _warn_of_few_steps(run, images=images)


def _warn_of_few_steps(run: Run, *, images: int) -> None:
    """Warn if an epoch is one step, as with few images: a recipe for thousands of them then trains hardly at all."""
    training = run.config.training
    if images <= training.batch_size:
        log.warning(
            "%s: %s training images are one batch (training/batch_size: %s), so an epoch is one step, and %s epochs "
            "are as many steps. Lower batch_size, or fine-tune trained weights (docs/model.md).",
            *(run, f"{images:,}", f"{training.batch_size:,}", f"{training.epochs:,}"),
        )


@contextmanager
def name_sizes_when_out_of_memory():
    """Raise AfmpError with the sizes to lower if this block runs out of memory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = ". ".join(one_line(error).split(". ")[:2])
        raise AfmpError(
            f"training ran out of memory ({reason}); lower {SIZES}, or "
            "let nothing else use the device, then run this again."
        ) from None
