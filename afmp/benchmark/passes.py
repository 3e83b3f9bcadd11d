"""Passes of a model (in eager mode, compiled, or replayed as CUDA graphs) and their interleaved timing.

A training pass is forward, loss and backward. An inference pass is only forward, in eval mode without gradients.
"""

import gc
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch

from afmp.analysis.series import MADE_BY_HAND
from afmp.errors import is_out_of_memory, one_line
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import autocast
from afmp.machine.timing import milliseconds as time_of
from afmp.model.replay import SIGHTINGS

# Passes are timed until their times add up to the given seconds, but never fewer than this.
FEWEST_PASSES = 5
WARM_UP_BEFORE_CAPTURE = 3
# torch.compile's mode in each execution that compiles.
REDUCE_OVERHEAD = "reduce-overhead"
COMPILE_MODES = {"compiled": "default", "compiled_graph": "default", "reduce_overhead": REDUCE_OVERHEAD}
# A compiled function runs once, then PyTorch records its CUDA graphs, and from the third pass on it replays them.
PASSES_BEFORE_REPLAY = 2


class Subject:
    """A model on its device with its images (B, 3, R, R) and labels (B,), and the passes over them.

    mode: train or inference. precision: fp32, tf32, bf16 or fp16; the last two are autocast.
    """

    def __init__(
        self, model: torch.nn.Module, loss: Callable, inputs: tuple[torch.Tensor, torch.Tensor], *, mode: str, precision
    ) -> None:
        self.model, self.inputs, self.precision = model, inputs, precision
        self.trains = mode == "train"
        model.train(self.trains)
        self._function = loss if self.trains else lambda images, labels: model(images)
        self._functions = {None: self._function}
        self.set_replay(True)

    def set_replay(self, enabled: bool) -> None:
        """Let a model that captures CUDA graphs itself do so, or not, as within a graph made by hand."""
        self.has_own_graphs = enabled and hasattr(self.model, "set_replay") and self.inputs[0].is_cuda
        self.forget_graphs()

    def forget_graphs(self) -> None:
        """Free the graphs that the model has captured itself. They are captured again in the next passes."""
        if hasattr(self.model, "set_replay"):
            self.model.set_replay(self.has_own_graphs)

    def forward(self, *, compile_mode: str | None) -> torch.Tensor:
        """Return the loss, ready for backward, in training; the logits in inference.

        compile_mode: torch.compile's, one of COMPILE_MODES; None to run uncompiled. Under REDUCE_OVERHEAD the next pass
        overwrites the result and the gradients.
        """
        if compile_mode not in self._functions:
            self._functions[compile_mode] = torch.compile(self._function, dynamic=False, mode=compile_mode)
        if compile_mode == REDUCE_OVERHEAD:
            torch.compiler.cudagraph_mark_step_begin()
        function = self._functions[compile_mode]
        with nullcontext() if self.trains else torch.no_grad(), autocast(self.precision, self.inputs[0].device):
            return function(*self.inputs)

    def run(self, *, compile_mode: str | None) -> None:
        """Run one whole pass. In training it leaves gradients behind."""
        result = self.forward(compile_mode=compile_mode)
        if self.trains:
            result.backward()

    def clear_gradients(self) -> None:
        """Free all gradients."""
        self.model.zero_grad(set_to_none=True)


class Pass:
    """A subject's pass in one execution. After each call, `clean` runs outside the timed part."""

    def __init__(self, subject: Subject, execution: str) -> None:
        self._clear = subject.clear_gradients
        self._call = partial(subject.run, compile_mode=COMPILE_MODES.get(execution))
        subject.set_replay(execution == "eager")
        if execution in MADE_BY_HAND:
            self._call, self._clear = _capture(subject, self._call).replay, lambda: None
            return
        passes = PASSES_BEFORE_REPLAY if execution == "reduce_overhead" else 0
        for _ in range(max(passes, SIGHTINGS if subject.has_own_graphs else 0)):
            self._call()
            self._clear()

    def __call__(self) -> None:
        self._call()

    def clean(self) -> None:
        """Free the gradients of a pass; a CUDA graph overwrites its own."""
        self._clear()


def _capture(subject: Subject, run: Callable[[], None]) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream(subject.inputs[0].device)
    for _ in range(WARM_UP_BEFORE_CAPTURE):
        subject.clear_gradients()
        run_before_capture(run, stream)
    # Gradients that do not exist yet are allocated in the graph's own memory, and every replay overwrites them.
    subject.clear_gradients()
    graph, _ = capture(run, stream)
    return graph


def free_graph_trees() -> None:
    """Free PyTorch's own CUDA graphs and their memory. Every compiled function is compiled again at its next call."""
    torch.compiler.reset()
    gc.collect()


class Replayed:
    """A function without arguments, to be timed. On CUDA it is captured as one CUDA graph and replayed."""

    def __init__(
        self,
        function: Callable[[], object],
        device: torch.device,
        before_capture: Callable[[], None] = lambda: None,
    ) -> None:
        self._call = function
        if device.type == "cuda":
            stream = torch.cuda.Stream(device)
            for _ in range(WARM_UP_BEFORE_CAPTURE):
                run_before_capture(function, stream)
            before_capture()
            graph, self._result = capture(function, stream)
            self._call = graph.replay

    def __call__(self) -> None:
        self._call()

    def clean(self) -> None:
        """Do nothing: a call leaves nothing to free."""


def interleaved_times(
    passes: dict, *, device: torch.device, warmup: int, repeats: int, seconds: float
) -> tuple[dict[object, list[float]], dict]:
    """Time the passes in turn (A B A B ...); return the milliseconds of each, and the failure of each that raised.

    At most `repeats` rounds are timed, after at most `warmup` untimed ones. A slow pass has fewer: once it took
    `seconds` in total, but not before FEWEST_PASSES, the rounds continue without it.
    """
    alive, failures = dict(passes), {}
    times: dict[object, list[float]] = {name: [] for name in passes}

    def run_rounds(most: int, fewest: int, recorded: dict) -> None:
        spent = dict.fromkeys(passes, 0.0)
        for number in range(most):
            for name, run in list(alive.items()):
                if number >= fewest and spent[name] >= 1000 * seconds:
                    continue
                try:
                    milliseconds = time_of(run, device)
                    run.clean()
                except Exception as error:  # only this pass stops
                    failures[name] = failure(error)
                    del alive[name]
                    continue
                spent[name] += milliseconds
                recorded[name].append(milliseconds)

    # A garbage collection during an eager pass would count as time of the model.
    gc.collect()
    gc.disable()
    try:
        run_rounds(warmup, min(warmup, 2), {name: [] for name in passes})
        run_rounds(repeats, min(repeats, FEWEST_PASSES), times)
    finally:
        gc.enable()
    return {name: times[name] for name in alive}, failures


def failure(error: Exception) -> dict:
    """Return status and error of a point whose measurement raised."""
    return {"status": "oom" if is_out_of_memory(error) else "error", "error": one_line(error)}
