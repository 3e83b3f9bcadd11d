"""Replay: on a GPU, a model's passes as CUDA graphs, so that small kernels need not wait for Python to launch them.

A pass, from images to logits and sparsity loss, is captured when it comes for the third time with one shape, type and
setting. From then on each pass copies the images into memory of the graph, replays it, and copies the results out, and
the backward pass does the same with gradients. Whatever a graph cannot repeat is computed as without this file: see
`Replay.__call__`.

All graphs of a model use one memory pool, so at most one pass at a time is between its forward and its backward graph.
"""

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors
from torch.autograd.function import once_differentiable
from torch.nn.modules.module import _has_any_global_hook

from afmp.errors import one_line
from afmp.machine.cuda_graph import capture
from afmp.message_passing.autocast import autocast_dtype
from afmp.model.linear import needs_plain_operations

log = logging.getLogger("afmp")

SIGHTINGS = 3  # a pass is captured when it comes for this time; the passes before it compile all kernels
MAX_GRAPHS = 4  # training and evaluation, each with a last, smaller batch
SIGHTINGS_TO_REPLACE = 30  # if there are MAX_GRAPHS already: so that capturing cannot take most of the time
MAX_KEYS = 256  # passes that are counted
MAX_RECAPTURES = 3  # in a row, without this many replays in between
REPLAYS_THAT_PAY = 100
# Modules of PyTorch that may be in the model. Others may keep a state, or call what a graph cannot repeat.
FOREIGN = (nn.ModuleList, nn.ModuleDict, nn.Sequential, nn.Linear, nn.ReLU, nn.Identity)


class CudaGraphs:
    """The part of CUDA: which passes can be captured, and the captures, which share one memory pool."""

    def __init__(self) -> None:
        self.pool: tuple[int, int] | None = None
        self._stream: torch.cuda.Stream | None = None

    @staticmethod
    def can_replay(images: Tensor) -> bool:
        """Return True on the default stream of a GPU.

        All replays are on this one stream, so none overlaps another. A program that captures a graph of its own, and
        warms up for it, does both on other streams.
        """
        device = images.device
        return (
            device.type == "cuda"
            and device.index == torch.cuda.current_device()
            and torch.cuda.current_stream(device).cuda_stream == 0
        )

    def capture(self, function: Callable[[], list[Tensor]]) -> tuple[Callable[[], None], list[Tensor]]:
        """Return a replay of `function`, and its results, which every replay overwrites."""
        # A stream that has computed nothing: then the workspaces of matrix products, too, are in the pool.
        self._stream = self._stream or torch.cuda.Stream()
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        with torch.cuda.stream(torch.cuda.current_stream()):  # a failed capture would not return to it
            graph, results = capture(function, self._stream, pool=self.pool)
        return graph.replay, results

    @property
    def idle_bytes(self) -> int:
        """Bytes that the pool holds for replays and that the allocator does not count as allocated."""
        if self.pool is None:
            return 0
        segments = (each for each in torch.cuda.memory_snapshot() if tuple(each["segment_pool_id"]) == self.pool)
        return sum(each["total_size"] - each["allocated_size"] for each in segments)


class _Parts:
    """The modules, parameters and buffers inside a model, to see whether any of them was replaced or moved."""

    def __init__(self, model: nn.Module) -> None:
        # Nothing here refers to the model itself: such a circle would keep its memory until garbage is collected.
        modules = [module for module in model.modules() if module is not model]
        self._children = [model._modules, *(module._modules for module in modules)]
        self._modules, self._types = self._listed(self._children), list(map(type, modules))
        self.modules = modules
        self._attributes = [vars(module) for module in modules]
        self._hooks = [
            hooks
            for module in modules
            for hooks in (
                *(module._forward_hooks, module._forward_pre_hooks),
                *(module._backward_hooks, module._backward_pre_hooks),
            )
        ]
        self._parameters = [model._parameters, *(module._parameters for module in modules)]
        self._buffers = [model._buffers, *(module._buffers for module in modules)]
        self.places = [
            (own, name) for own in self._parameters for name, parameter in own.items() if parameter is not None
        ]
        self._tensors = self._all_tensors()  # kept, so that no other tensor can have the identity of one of them
        self.parameters = self._tensors[: len(self.places)]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._are_own = all(map(_is_known, (model, *modules))) and all(
            type(each) is nn.Parameter for each in self.parameters
        )

    @staticmethod
    def _listed(owners: list[dict]) -> list:
        return [each for own in owners for each in own.values() if each is not None]

    def _all_tensors(self) -> list[Tensor]:
        return self._listed(self._parameters) + self._listed(self._buffers)

    def are_unchanged(self) -> bool:
        """Return True if every module and tensor is still the same, in the same memory."""
        tensors = self._all_tensors()
        return (
            self._listed(self._children) == self._modules
            and list(map(type, self.modules)) == self._types
            and list(map(id, tensors)) == list(map(id, self._tensors))
            and [tensor.data_ptr() for tensor in tensors] == self._addresses
        )

    def can_replay(self) -> bool:
        """Return True if all modules are AFMP's own or plain ones, and calling them runs nothing else."""
        return (
            self._are_own
            and not any(self._hooks)
            and not _has_any_global_hook()
            and not any("forward" in attributes for attributes in self._attributes)
        )


def _is_known(module: nn.Module) -> bool:
    own = type(module).__module__.startswith("afmp.model.")
    if isinstance(module, (nn.Linear, nn.LayerNorm)) and module._parameters.get("weight") is None:
        return False  # a wrapper has put another tensor in its place
    return own or type(module) in FOREIGN


class _Ticket:
    """The right of a forward pass to its backward graph, until another pass uses the memory pool."""

    is_used = False


def _nobody() -> None:
    """Stand for the reference to a ticket that no longer exists."""


class _Calculation:
    """A pass and its backward pass over fixed tensors: to be captured, or to be computed once.

    The gradients are those of aliases of the parameters. So hooks on parameters run in the backward pass of the user
    only, and a capture leaves nothing behind in the autograd graph of the parameters.
    """

    def __init__(self, model: nn.Module, images: Tensor, conditions: "_Conditions", parts: _Parts) -> None:
        self.model, self.images, self.conditions, self.parts = model, images, conditions, parts
        self.aliases = [parameter.detach() for parameter in parts.parameters]
        for alias, wanted in zip(self.aliases, conditions.wanted, strict=True):
            alias.requires_grad_(wanted)
        self._results: tuple[Tensor, ...] = ()

    @contextmanager
    def _as_the_user(self) -> Iterator[None]:
        conditions, kind = self.conditions, self.images.device.type
        cast = {"dtype": conditions.cast} if conditions.cast else {"enabled": False}
        own = [places[name] for places, name in self.parts.places]
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(conditions.trains),
            torch.autocast(kind, cache_enabled=False, **cast),
        ):
            try:
                for (places, name), alias in zip(self.parts.places, self.aliases, strict=True):
                    places[name] = alias
                yield
            finally:
                for (places, name), parameter in zip(self.parts.places, own, strict=True):
                    places[name] = parameter

    def forward(self) -> list[Tensor]:
        """Return the results of the pass."""
        with self._as_the_user():
            self._results = self.model.compute(self.images, with_loss=self.conditions.with_loss)
        return [result.detach() for result in self._results]

    def reached(self) -> list[list[bool] | None]:
        """Return which of the images and the parameters each result depends on, after `forward`.

        None for a result that has no gradient.
        """
        inputs = self._inputs()

        def reached_by(result: Tensor) -> list[bool]:
            found = torch.autograd.grad(result, inputs, torch.zeros_like(result), retain_graph=True, allow_unused=True)
            gradients = self._of_all(found)
            return [gradient is not None for gradient in gradients]

        return [reached_by(result) if result.requires_grad else None for result in self._results]

    def backward(self, d_results: list[Tensor]) -> list[Tensor | None]:
        """Return the gradients of the images and of all parameters, once after `forward`; None if there is none.

        d_results: the gradients of the results that have one.
        """
        results = [result for result in self._results if result.requires_grad]
        self._results = ()
        pairs = [pair for pair in zip(results, d_results, strict=True) if pair[1] is not None]
        used, given = zip(*pairs, strict=True)
        # In this thread: the one of the engine would have a workspace of its own for matrix products.
        with torch.autograd.set_multithreading_enabled(False):
            return self._of_all(torch.autograd.grad(used, self._inputs(), given, allow_unused=True))

    def _inputs(self) -> list[Tensor]:
        return [each for each in (self.images, *self.aliases) if each.requires_grad]

    def _of_all(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        found = iter(gradients)
        return [next(found) if each.requires_grad else None for each in (self.images, *self.aliases)]


class _Conditions:
    """All on which the operations of a pass depend, besides the model's parts. Equal conditions have an equal `key`."""

    def __init__(self, model: nn.Module, images: Tensor, parts: _Parts, *, with_loss: bool) -> None:
        self.with_loss, self.cast = with_loss, autocast_dtype(images)
        has_gradients = torch.is_grad_enabled()
        self.wanted = [has_gradients and parameter.requires_grad for parameter in parts.parameters]
        self.images_wanted = has_gradients and images.requires_grad
        self.trains = self.images_wanted or any(self.wanted)
        products = torch.backends.cuda.matmul
        self.settings = (
            self.cast,
            products.fp32_precision,
            products.allow_bf16_reduced_precision_reduction,
            products.allow_fp16_reduced_precision_reduction,
            torch.are_deterministic_algorithms_enabled(),
            *(model.lambda_sparse, model.use_top_down, model.global_pool, *vars(model.budget).values()),
        )
        self.key = (
            *(with_loss, self.images_wanted, tuple(self.wanted)),
            *(images.shape, images.dtype, images.device, self.settings),
        )
        # The embedding casts images, so they may be stored as it reads them. Random edges depend on every bit.
        narrow = self.cast and images.dtype == torch.float32 and model.budget.routing != "random"
        self.stored = self.cast if narrow else images.dtype


class _Captured:
    """The graphs of a pass, and the tensors that they read and write."""

    def __init__(self, graphs, model: nn.Module, images: Tensor, conditions: _Conditions, parts: _Parts) -> None:
        self.conditions, self.backward = conditions, None
        with torch.no_grad():
            self.images = torch.empty(images.shape, dtype=conditions.stored, device=images.device).copy_(images)
        self.images.requires_grad_(conditions.images_wanted)
        calculation = _Calculation(model, self.images, conditions, parts)
        results = calculation.forward()  # once outside the graph, in this thread
        if not conditions.trains:
            del results
            self.forward, self.results = graphs.capture(calculation.forward)
            return
        self.reached = calculation.reached()
        self.d_results = [torch.zeros_like(each) for each in self._with_gradient(results)]
        self._lay_out(calculation.backward(self.d_results), parts)
        del results

        def backward() -> list[Tensor]:
            found = calculation.backward(self.d_results)
            flat = [torch.cat([found[index].reshape(-1) for index in group]) for group in self.groups]
            return [*flat, found[0]] if self.has_image_gradient else flat

        self.forward, self.results = graphs.capture(calculation.forward)
        self.backward, self.gradients = graphs.capture(backward)

    def _lay_out(self, gradients: list[Tensor | None], parts: _Parts) -> None:
        """Group the gradients of parameters by their type: each group is one flat tensor, and one copy per pass.

        Those of odd length are last, so that all others are aligned as kernels like it.
        """
        self.has_image_gradient, self.num_inputs = gradients[0] is not None, len(gradients)
        present = [index for index, gradient in enumerate(gradients) if gradient is not None and index > 0]
        present.sort(key=lambda index: gradients[index].nbytes % 16 != 0)
        types = dict.fromkeys(gradients[index].dtype for index in present)
        self.groups = [[index for index in present if gradients[index].dtype == dtype] for dtype in types]
        self.shaped = [[parts.parameters[index - 1].detach() for index in group] for group in self.groups]

    def _with_gradient(self, results) -> list:
        return [each for each, reached in zip(results, self.reached, strict=True) if reached is not None]

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return copies of the results of the pass."""
        self.images.copy_(images)
        self.forward()
        return tuple(result.clone() for result in self.results)

    def run_backward(self, d_results: tuple[Tensor | None, ...]) -> list[Tensor | None]:
        """Return the gradients of the images and of all parameters: views of memory that is theirs alone."""
        for own, given in zip(self.d_results, self._with_gradient(d_results), strict=True):
            own.zero_() if given is None else own.copy_(given)
        self.backward()
        copies = [each.clone() for each in self.gradients]
        found: list[Tensor | None] = [None] * self.num_inputs
        given = [each for each, d_result in zip(self.reached, d_results, strict=True) if d_result is not None]
        for group, flat, shaped in zip(self.groups, copies, self.shaped, strict=False):
            for index, gradient in zip(group, _unflatten_dense_tensors(flat, shaped), strict=True):
                found[index] = gradient
        if self.has_image_gradient:
            found[0] = copies[-1]
        if len(given) < len(self.d_results):  # what acts on no result that is used has no gradient, not one of 0
            found = [each if any(by) else None for each, *by in zip(found, *given, strict=True)]
        return found

    def compute_again(self, d_results: tuple[Tensor | None, ...], images: Tensor, model: nn.Module, parts: _Parts):
        """Return the same gradients without the graph, whose memory another pass has used."""
        now = _Conditions(model, images, parts, with_loss=self.conditions.with_loss)
        if now.settings[1:] != self.conditions.settings[1:]:  # autocast is off in a backward pass
            raise RuntimeError("AFMP: a setting was changed between a forward pass and its second backward pass")
        images = images.to(self.conditions.stored).detach().requires_grad_(self.conditions.images_wanted)
        calculation = _Calculation(model, images, self.conditions, parts)
        calculation.forward()
        return calculation.backward(self._with_gradient(d_results))


class Replay:
    """The CUDA graphs of one model. A copy of the model, or a model from a pickle, starts without any."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.graphs = CudaGraphs()
        self._lock = threading.Lock()
        self._recaptures, self._replays = 0, 0
        self._owner: Callable[[], nn.Module | None] = _nobody
        self._clear()

    def __deepcopy__(self, memo) -> "Replay":
        return Replay(self.enabled)

    def __reduce__(self):
        return Replay, (self.enabled,)

    def _clear(self) -> None:
        self._captured: OrderedDict[tuple, _Captured] = OrderedDict()
        self._sightings: OrderedDict[tuple, int] = OrderedDict()
        self._parts: _Parts | None = None
        self._ticket: Callable[[], _Ticket | None] = _nobody
        self._replays_before = self._replays
        self.graphs = type(self.graphs)()

    def set_enabled(self, enabled: bool) -> None:
        """Replay passes or not; in both cases without what was captured before, whose memory is freed."""
        self.enabled, self._recaptures = enabled, 0
        self._clear()

    @property
    def num_graphs(self) -> int:
        """The number of captured passes."""
        return len(self._captured)

    def __call__(self, model: nn.Module, images: Tensor, *, with_loss: bool) -> tuple[Tensor, ...] | None:
        """Return what `model.compute(images, with_loss=with_loss)` does; None if the caller is to compute it.

        It is None where a graph could not repeat the pass: off a GPU's default stream, in function transforms, export
        and tracing, with hooks or foreign modules inside the model, with recomputed layers, and under dispatch modes
        and hooks on saved tensors; further in the first passes of a kind, and while an earlier pass waits for its
        backward pass.
        """
        if (
            not self.enabled
            or type(images) is not Tensor
            or not self.graphs.can_replay(images)
            or not images.numel()
            or needs_plain_operations()
            or model.grad_checkpointing
            or torch._C._len_torch_dispatch_stack()
            or torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
            or images.device != model.static_positions.device
            or not self._lock.acquire(blocking=False)
        ):
            return None
        try:
            return self._run(model, images, with_loss=with_loss)
        finally:
            self._lock.release()

    def _run(self, model: nn.Module, images: Tensor, *, with_loss: bool) -> tuple[Tensor, ...] | None:
        if self._owner() is not model:
            if self._owner() is not None:  # a shallow copy, or a replica of DataParallel
                return None
            self._owner = weakref.ref(model)
        if (self._parts is None or not self._parts.are_unchanged()) and not self._look_again(model):
            return None
        if not self._parts.can_replay() or self._is_waiting():
            return None
        conditions = _Conditions(model, images, self._parts, with_loss=with_loss)
        captured = self._captured.get(conditions.key) or self._capture(model, images, conditions)
        if captured is None:
            return None
        self._captured.move_to_end(conditions.key)
        self._ticket, self._replays = _nobody, self._replays + 1
        if not conditions.trains:
            with torch.no_grad():
                return captured.run(images)
        return _ReplayedPass.apply(self, captured, model, images, *self._parts.parameters)

    def _is_waiting(self) -> bool:
        """Return True if an earlier pass still waits for its backward pass; not if its results are gone."""
        ticket = self._ticket()
        return ticket is not None and not ticket.is_used

    def _look_again(self, model: nn.Module) -> bool:
        """Start again for a model whose parts were replaced or moved. Return False if that happens too often."""
        if self._captured:
            pays = self._replays - self._replays_before >= REPLAYS_THAT_PAY
            self._recaptures = 0 if pays else self._recaptures + 1
            if self._recaptures > MAX_RECAPTURES:
                log.warning("AFMP runs without its CUDA graphs: its weights are moved again and again")
                self.set_enabled(False)
                return False
        self._clear()
        self._parts = _Parts(model)
        return True

    def _capture(self, model: nn.Module, images: Tensor, conditions: _Conditions) -> _Captured | None:
        """Return the captured pass, once it came often enough; else None."""
        sightings = self._sightings.pop(conditions.key, 0) + 1
        self._sightings[conditions.key] = sightings
        if len(self._sightings) > MAX_KEYS:
            self._sightings.popitem(last=False)
        is_full = len(self._captured) >= MAX_GRAPHS
        if sightings < (SIGHTINGS_TO_REPLACE if is_full else SIGHTINGS):
            return None
        self._sightings[conditions.key] = 0
        if is_full:
            self._captured.popitem(last=False)
        self._ticket = _nobody
        try:
            with torch.inference_mode(False):
                captured = _Captured(self.graphs, model, images, conditions, self._parts)
        except Exception as error:  # out of memory, or something in the pass that no graph can hold
            self._sightings[conditions.key] = -(10**9)
            shape = tuple(images.shape)
            log.warning("AFMP computes images of shape %s without a CUDA graph: %s", shape, one_line(error)[:200])
            return None
        self._captured[conditions.key] = captured
        return captured

    def _gradients(self, ctx, d_results: tuple[Tensor | None, ...]) -> list[Tensor | None]:
        ticket, captured = ctx.ticket, ctx.captured
        if self._ticket() is ticket and not ticket.is_used and self._lock.acquire(blocking=False):
            try:
                ticket.is_used = True
                return captured.run_backward(d_results)
            finally:
                self._lock.release()
        if _version(ctx.images) != ctx.version:
            raise RuntimeError("AFMP: the images were changed in place before the second backward pass of their answer")
        return captured.compute_again(d_results, ctx.images, ctx.model, _Parts(ctx.model))


def _version(images: Tensor) -> int:
    """Return the number of changes in place; those of inference mode are not counted."""
    return 0 if images.is_inference() else images._version


class _ReplayedPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, replay, captured, model, images, *parameters):
        ctx.replay, ctx.captured, ctx.model, ctx.ticket = replay, captured, model, _Ticket()
        ctx.images, ctx.version = images.detach(), _version(images)
        # For autograd's error if a parameter is changed in place before the backward pass.
        ctx.save_for_backward(*parameters)
        ctx.set_materialize_grads(False)
        results = captured.run(images)
        replay._ticket = weakref.ref(ctx.ticket)
        pairs = zip(results, captured.reached, strict=True)
        ctx.mark_non_differentiable(*(result for result, reached in pairs if reached is None))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_results):
        _ = ctx.saved_tensors
        wanted = ctx.captured._with_gradient(d_results)
        if all(each is None for each in wanted):
            return None, None, None, *[None] * (len(ctx.needs_input_grad) - 3)
        return None, None, None, *ctx.replay._gradients(ctx, d_results)
