"""One pass of one model, ready to be called again and again: eager, compiled, or replayed as a CUDA graph.

A training pass is forward, loss and backward; an inference pass is the forward alone, in eval mode without gradients.
"""

import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch

from afmp.errors import is_out_of_memory, one_line
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import autocast

# Passes are timed until their times add up to the seconds asked for, but never fewer than this.
FEWEST_PASSES = 5
WARM_UP_BEFORE_CAPTURE = 3


class Subject:
    """A model on its device with its images and labels, and the passes over them.

    - forward: loss of (images, labels) in training, logits in inference; compiled or not
    """

    def __init__(
        self, model: torch.nn.Module, loss: Callable, inputs: tuple[torch.Tensor, torch.Tensor], *, mode: str, precision
    ) -> None:
        self.model, self.inputs, self.precision = model, inputs, precision
        self.trains = mode == "train"
        model.train(self.trains)
        self._function = loss if self.trains else lambda images, labels: model(images)
        self._compiled = None

    def forward(self, *, compiled: bool) -> torch.Tensor:
        """The loss, with the graph that its backward needs, or the logits."""
        if compiled and self._compiled is None:
            self._compiled = torch.compile(self._function, dynamic=False)
        function = self._compiled if compiled else self._function
        with nullcontext() if self.trains else torch.no_grad(), autocast(self.precision, self.inputs[0].device):
            return function(*self.inputs)

    def run(self, *, compiled: bool) -> None:
        """One whole pass; in training it leaves gradients behind."""
        result = self.forward(compiled=compiled)
        if self.trains:
            result.backward()

    def clear_gradients(self) -> None:
        """Free all gradients."""
        self.model.zero_grad(set_to_none=True)


class Pass:
    """A subject's pass in one execution: call it, then `clean` before the next call, which is not timed."""

    def __init__(self, subject: Subject, execution: str) -> None:
        compiled = execution.startswith("compiled")
        self._clear = subject.clear_gradients
        self._call = lambda: subject.run(compiled=compiled)
        if execution.endswith("graph"):
            self._call, self._clear = _capture(subject, compiled=compiled).replay, lambda: None

    def __call__(self) -> None:
        self._call()

    def clean(self) -> None:
        """Free the gradients of an eager pass; a graph overwrites its own."""
        self._clear()


def _capture(subject: Subject, *, compiled: bool) -> torch.cuda.CUDAGraph:
    run, stream = partial(subject.run, compiled=compiled), torch.cuda.Stream(subject.inputs[0].device)
    for _ in range(WARM_UP_BEFORE_CAPTURE):
        subject.clear_gradients()
        run_before_capture(run, stream)
    # Gradients that do not exist yet are made inside the graph's own memory, and every replay writes them anew.
    subject.clear_gradients()
    graph, _ = capture(run, stream)
    return graph


def interleaved_times(
    passes: dict, *, device: torch.device, warmup: int, repeats: int, seconds: float
) -> tuple[dict[object, list[float]], dict]:
    """Milliseconds of every pass, one of each in turn (A B A B ...), and the failure of each that raised.

    At most `repeats` rounds are timed after at most `warmup` untimed ones. A slow pass has fewer: it leaves the rounds,
    but not before FEWEST_PASSES, when it has taken `seconds` in all; the faster ones go on without it.
    """
    alive, failures = dict(passes), {}
    times: dict[object, list[float]] = {name: [] for name in passes}

    def play_rounds(most: int, fewest: int, kept: dict) -> None:
        spent = dict.fromkeys(passes, 0.0)
        for number in range(most):
            for name, run in list(alive.items()):
                if number >= fewest and spent[name] >= 1000 * seconds:
                    continue
                try:
                    milliseconds = _time_ms(run, device)
                    run.clean()
                except Exception as error:  # of this model alone: the others go on
                    failures[name] = failure(error)
                    del alive[name]
                    continue
                spent[name] += milliseconds
                kept[name].append(milliseconds)

    # A collection in the middle of an eager pass would count as the model's.
    gc.collect()
    gc.disable()
    try:
        play_rounds(warmup, min(warmup, 2), {name: [] for name in passes})
        play_rounds(repeats, min(repeats, FEWEST_PASSES), times)
    finally:
        gc.enable()
    return {name: times[name] for name in alive}, failures


def failure(error: Exception) -> dict:
    """Status and error of a point whose measurement raised."""
    return {"status": "oom" if is_out_of_memory(error) else "error", "error": one_line(error)}


def _time_ms(run: Callable[[], None], device: torch.device) -> float:
    """Milliseconds of one call, from a device with nothing left to do to a device with nothing left to do."""
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
    start = time.perf_counter()
    run()
    synchronize()
    return (time.perf_counter() - start) * 1000
