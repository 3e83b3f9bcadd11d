"""Training of several runs side by side in one process, because a small model leaves most of a GPU idle."""

import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from typing import Protocol

import torch

from afmp.machine.stopping import Stopped, request_stop

log = logging.getLogger("afmp")


class Training(Protocol):
    """A run that is set up."""

    def train(self) -> None: ...


def train_side_by_side(set_ups: dict[str, Callable[[], Training]], device: torch.device) -> None:
    """Set up several runs one after the other, then train them in parallel, each in its own thread and CUDA stream.

    set_ups: maps each run's name to the function that sets it up.
    Raises the exception of the first run, after all runs have ended. Exceptions of the other runs are logged.
    """
    first, *others = set_ups
    streams = {name: torch.cuda.Stream(device) if device.type == "cuda" else None for name in set_ups}
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the data was loaded on another stream
    trainings: dict[str, Training] = {}

    def set_up(name: str) -> None:
        with _on(streams[name]):
            trainings[name] = set_ups[name]()

    def train(name: str) -> None:
        with _on(streams[name]):
            trainings.pop(name).train()  # popped, so that the memory of a run is free once it has ended

    def attempt(step: Callable[[str], None], name: str) -> None:
        try:
            step(name)
        except Stopped:
            pass  # the first run raises it too
        except Exception as error:
            log.warning("%s failed side by side with %s and is left to its own job: %s", name, first, error)

    set_up(first)
    for name in others:
        attempt(set_up, name)
    with ThreadPoolExecutor(len(set_ups)) as pool:
        try:
            result = pool.submit(train, first)
            wait([result, *(pool.submit(attempt, train, name) for name in others if name in trainings)])
        except BaseException:  # Ctrl-C raises in this thread only; the others end after their epoch
            request_stop()
            previous = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
            pool.shutdown()
            signal.signal(signal.SIGINT, previous)
            raise
    result.result()


def _on(stream: torch.cuda.Stream | None):
    return nullcontext() if stream is None else torch.cuda.stream(stream)
