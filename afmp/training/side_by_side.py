"""Several runs in one process at once: a small model leaves most of a GPU idle, and others fill the gaps."""

import logging
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext

import torch

from afmp.machine.stopping import Stopped, ask_to_stop

log = logging.getLogger("afmp")


def train_side_by_side(trainings: dict[str, Iterator[None]], device: torch.device) -> None:
    """Go through the trainings of several runs at once, by name, a thread and on CUDA a stream each.

    A training pauses when it is set up, which the runs do one after the other. Raises what the first run raises, once
    all are through; what the others raise is logged.
    """
    streams = {name: torch.cuda.Stream(device) if device.type == "cuda" else None for name in trainings}
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # the data was loaded on another stream
    own, *others = trainings
    failed = set()

    def set_up(name: str) -> None:
        with _on(streams[name]):
            next(trainings[name], None)

    def finish(name: str) -> None:
        with _on(streams[name]):
            for _ in trainings[name]:
                pass

    def attempt(step: Callable[[str], None], name: str) -> None:
        try:
            step(name)
        except Stopped:
            pass  # the first run says it
        except Exception as error:
            failed.add(name)
            log.warning("%s, trained beside %s, is left to its own job: %s", name, own, error)

    set_up(own)
    for name in others:
        attempt(set_up, name)
    with ThreadPoolExecutor(len(trainings)) as pool:
        try:
            result = pool.submit(finish, own)
            rest = [pool.submit(attempt, finish, name) for name in others if name not in failed]
            wait([result, *rest])
        except BaseException:  # Ctrl-C reaches this thread alone; the others end after their epoch
            ask_to_stop()
            before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one waits for nothing
            pool.shutdown()
            signal.signal(signal.SIGINT, before)
            raise
    result.result()


def _on(stream: torch.cuda.Stream | None):
    return nullcontext() if stream is None else torch.cuda.stream(stream)
