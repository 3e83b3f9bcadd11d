"""Replay: on a GPU, a model's passes as CUDA graphs, so that small kernels need not wait for Python to launch them.

A pass is captured when it comes for the third time with one shape, type and setting. From then on each pass copies the
images into memory of the graph, replays it, and copies the results out, and the backward pass does the same with
gradients. Whatever a graph cannot repeat is computed as without this file: see `Replay.__call__`.

All graphs of a model use one memory pool, so at most one pass at a time is between its forward and its backward graph.
"""

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from afmp.errors import one_line
from afmp.message_passing.autocast import autocast_dtype
from afmp.model.captured_pass import Calculation, CapturedPass, Conditions, CudaGraphs
from afmp.model.linear import needs_plain_operations
from afmp.model.parts import Parts

log = logging.getLogger("afmp")

SIGHTINGS = 3  # a pass is captured when it comes for this time; the passes before it compile all kernels
MAX_GRAPHS = 4  # training and evaluation, each with a last, smaller batch
SIGHTINGS_TO_REPLACE = 30  # if there are MAX_GRAPHS already: so that capturing cannot take most of the time
MAX_KEYS = 256  # passes that are counted
MAX_RECAPTURES = 3  # in a row, without this many replays in between
REPLAYS_THAT_PAY = 100
NEVER = -(10**9)  # sightings of a pass that is not to be captured


class Ticket:
    """The right of a forward pass to its backward graph, until another pass uses the memory pool."""

    is_used = False


def _nobody() -> None:
    """Stand for a reference to something that no longer exists."""


class Replay:
    """The CUDA graphs of one model, its owner. A copy of the model, or a model from a pickle, starts without any."""

    def __init__(self, owner: nn.Module | None = None, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self.graphs = CudaGraphs()
        self.owner: Callable[[], nn.Module | None] = _nobody if owner is None else weakref.ref(owner)
        self.lock = threading.Lock()
        self.num_replays = self._recaptures = 0
        self._clear()

    def _clear(self) -> None:
        self._captured: OrderedDict[tuple, CapturedPass] = OrderedDict()
        self._sightings: OrderedDict[tuple, int] = OrderedDict()
        self._parts: Parts | None = None
        self._ticket: Callable[[], Ticket | None] = _nobody
        self._replays_before = self.num_replays
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
        and tracing, with hooks or foreign modules inside the model, with recomputed layers, and under dispatch modes,
        hooks on saved tensors, anomaly detection and forward-mode differentiation; further in the first passes of a
        kind, and while an earlier pass waits for its backward pass.
        """
        if (
            not self.enabled
            or type(images) is not Tensor
            or not isinstance(model.lambda_sparse, (int, float))
            or not self.graphs.can_replay(images)
            or needs_plain_operations()
            or torch.jit.is_tracing()
            or model.grad_checkpointing
            or torch._C._len_torch_dispatch_stack()
            or torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
            or torch.is_anomaly_enabled()
            or forward_ad._current_level >= 0
            or self.owner() is not model  # a replica of DataParallel
        ):
            return None
        with self.lock:
            parts = self._current_parts(model)
            if parts is None:
                return None
            has_gradients = torch.is_grad_enabled()
            conditions = Conditions(
                model,
                images,
                with_loss=with_loss,
                cast=autocast_dtype(images),
                wanted=[has_gradients and parameter.requires_grad for parameter in parts.parameters],
                images_wanted=has_gradients and images.requires_grad,
            )
            captured = self._captured_pass(model, images, conditions)
            if captured is None:
                return None
            if conditions.trains:
                return _ReplayedPass.apply(self, captured, model, images, *parts.parameters)
            return self.run(captured, images, _nobody)

    def _current_parts(self, model: nn.Module) -> Parts | None:
        """Return the parts of the model as they are now; None if they change too often."""
        if self._parts is None or not self._parts.are_unchanged():
            if self._captured:
                pays = self.num_replays - self._replays_before >= REPLAYS_THAT_PAY
                self._recaptures = 0 if pays else self._recaptures + 1
                if self._recaptures > MAX_RECAPTURES:
                    log.warning("AFMP runs without its CUDA graphs: its weights are moved again and again")
                    self.set_enabled(False)
                    return None
            self._clear()
            self._parts = Parts(model)
        return self._parts

    def _captured_pass(self, model: nn.Module, images: Tensor, conditions: Conditions) -> CapturedPass | None:
        """Return the captured pass, if nothing forbids a replay now. It is captured when it came often enough."""
        ticket = self._ticket()
        is_waiting = ticket is not None and not ticket.is_used
        if is_waiting or not images.numel() or not self._parts.can_replay():
            return None
        captured = self._captured.get(conditions.key) or self._capture(model, images, conditions)
        if captured is not None:
            self._captured.move_to_end(conditions.key)
        return captured

    def _capture(self, model: nn.Module, images: Tensor, conditions: Conditions) -> CapturedPass | None:
        seen = self._sightings.pop(conditions.key, 0) + 1
        self._sightings[conditions.key] = seen
        if len(self._sightings) > MAX_KEYS:
            self._sightings.popitem(last=False)
        is_full = len(self._captured) >= MAX_GRAPHS
        if seen < (SIGHTINGS_TO_REPLACE if is_full else SIGHTINGS):
            return None
        self._sightings[conditions.key] = 0
        if is_full:
            self._captured.popitem(last=False)
        self._ticket = _nobody
        try:
            with torch.inference_mode(False):
                captured = CapturedPass(self.graphs, model, images, conditions, self._parts)
            if not self.graphs.leaves_room():
                del captured
                raise MemoryError("beside it no other pass of this size would fit into the memory of the GPU")
        except Exception as error:  # out of memory, or something in the pass that no graph can hold
            self._sightings[conditions.key] = NEVER
            if not self._captured:
                self.graphs = type(self.graphs)()  # frees the pool
            shape = tuple(images.shape)
            log.warning("AFMP computes images of shape %s without a CUDA graph: %s", shape, one_line(error)[:200])
            return None
        self._captured[conditions.key] = captured
        return captured

    def run(self, captured: CapturedPass, images: Tensor, ticket: Callable[[], Ticket | None]) -> tuple[Tensor, ...]:
        """Return the results of a captured pass. `ticket` returns its ticket as long as someone may use it."""
        self._ticket, self.num_replays = ticket, self.num_replays + 1
        with torch.no_grad():
            return captured.run(images)

    def run_backward(
        self, captured: CapturedPass, ticket: Ticket, d_results: Sequence[Tensor | None]
    ) -> list[Tensor | None] | None:
        """Return the gradients of a captured pass; None if another pass has used the memory pool."""
        with self.lock:
            if self._ticket() is not ticket or ticket.is_used:
                return None
            ticket.is_used = True
            return captured.run_backward(d_results)


class _ReplayedPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx, replay, captured, model, images, *parameters):
        ctx.replay, ctx.captured, ctx.model, ctx.ticket = replay, captured, model, Ticket()
        ctx.images, ctx.version = images.detach(), _version(images)
        # For autograd's error if a parameter is changed in place before the backward pass.
        ctx.save_for_backward(*parameters)
        ctx.set_materialize_grads(False)
        results = replay.run(captured, images, weakref.ref(ctx.ticket))
        pairs = zip(results, captured.differentiable, strict=True)
        ctx.mark_non_differentiable(*(result for result, has_gradient in pairs if not has_gradient))
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx, *d_results):
        parameters, captured = ctx.saved_tensors, ctx.captured
        if all(each is None for each in d_results):
            return None, None, None, *[None] * (1 + len(parameters))
        gradients = ctx.replay.run_backward(captured, ctx.ticket, d_results)
        if gradients is None:
            if _version(ctx.images) != ctx.version:
                raise RuntimeError(
                    "AFMP: images were changed in place before a backward pass that has to compute their answer again"
                )
            with ctx.replay.lock:
                gradients = compute_again(ctx.model, ctx.images, captured.conditions, parameters, d_results)
        return None, None, None, *gradients


def _version(images: Tensor) -> int:
    """Return the number of changes in place; those of inference mode are not counted."""
    return 0 if images.is_inference() else images._version


def compute_again(
    model: nn.Module,
    images: Tensor,
    conditions: Conditions,
    parameters: Sequence[Tensor],
    d_results: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Return the gradients of a pass whose memory another pass has used: compute it a second time."""
    now = Conditions(
        *(model, images),
        with_loss=conditions.with_loss,
        cast=conditions.cast,
        wanted=conditions.wanted,
        images_wanted=conditions.images_wanted,
    )
    if now.settings != conditions.settings:
        raise RuntimeError("AFMP: a setting was changed between a forward pass and its second backward pass")
    calculation = Calculation(model, images.to(conditions.stored), conditions, Parts(model), parameters)
    calculation.forward()
    return calculation.backward(d_results)
