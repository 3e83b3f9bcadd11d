"""The time of one call on a device."""

import time
from collections.abc import Callable

import torch


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds of one call. The device is idle before and after it."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    synchronize = torch.mps.synchronize if device.type == "mps" else lambda: None
    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    return (time.perf_counter() - started) * 1000
