"""The conditions under which a seed trained, against those here: only under the same are bits promised."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from afmp.errors import AfmpError
from afmp.finished.check import NotCheckedError
from afmp.machine.device import resolve_device, set_matmul_precision
from afmp.provenance import device_record, versions
from afmp.study.run_config import TrainingConfig
from afmp.study.semantics import RIVAL

# Versions that decide bits, and those of a rival. A driver, a commit or a version of Python does not.
DECIDING = ("torch", "cuda", "numpy", "afmp")
DECIDING_RIVALS = (*DECIDING, "timm")


def same_conditions(result: dict, device: torch.device) -> bool:
    """Return whether a seed trained on this device alone, with these versions and, on a CPU, known threads."""
    if len(result["trained_by"]) > 1:
        return False
    (trained,) = result["trained_by"]
    here = versions()
    deciding = DECIDING_RIVALS if result["semantics"] == RIVAL else DECIDING
    same_versions = all(trained["versions"][name] == here[name] for name in deciding)
    known_threads = device.type != "cpu" or trained.get("cpu_threads") is not None
    return trained["device"] == device_record(device) and same_versions and known_threads


def training_device(training: TrainingConfig) -> torch.device:
    """Return the device on which a run trains here. Raises NotCheckedError if this machine lacks it."""
    try:
        return resolve_device(training.device)
    except AfmpError as error:
        raise NotCheckedError(str(error)) from None


@contextmanager
def computing_as(result: dict, training: TrainingConfig) -> Iterator[None]:
    """Compute inside this block with the number of CPU threads and the precision of a result's training."""
    before = torch.get_num_threads()
    torch.set_num_threads(result["trained_by"][-1].get("cpu_threads") or before)
    set_matmul_precision(training.precision)
    try:
        yield
    finally:
        torch.set_num_threads(before)
