"""A pass of a model as two CUDA graphs, forward and backward, over memory of their own.

A pass goes from images to logits and sparsity loss. `replay.py` decides which passes are captured.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors

from afmp.machine.cuda_graph import capture
from afmp.model.parts import Parts

ALIGNMENT = 16  # bytes


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

    def leaves_room(self) -> bool:
        """Return True if a pass as large as those captured fits into memory, computed kernel by kernel beside them.

        The pool is lent to nothing else, and a last, smaller batch or a pass with hooks is no replay.
        """
        total, allocated = self._pool_bytes()
        free, _ = torch.cuda.mem_get_info()
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated() - (total - allocated)
        return free + cached >= total

    @property
    def idle_bytes(self) -> int:
        """Bytes that the pool holds for replays and that the allocator does not count as allocated."""
        total, allocated = self._pool_bytes()
        return total - allocated

    def _pool_bytes(self) -> tuple[int, int]:
        """Return the bytes of the pool, and those of them that are allocated."""
        if self.pool is None:
            return 0, 0
        segments = [each for each in torch.cuda.memory_snapshot() if tuple(each["segment_pool_id"]) == self.pool]
        return tuple(sum(each[kind] for each in segments) for kind in ("total_size", "allocated_size"))


class Conditions:
    """All on which the operations of a pass depend, besides the model's parts. Equal conditions have an equal `key`.

    - cast: the type in which autocast computes products; None without autocast
    - wanted, images_wanted: whether each parameter, and the images, have a gradient
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        *,
        with_loss: bool,
        cast: torch.dtype | None,
        wanted: Sequence[bool],
        images_wanted: bool,
    ) -> None:
        self.with_loss, self.cast = with_loss, cast
        self.wanted, self.images_wanted, self.trains = wanted, images_wanted, images_wanted or any(wanted)
        products = torch.backends.cuda.matmul
        precisions = (products.fp32_precision, torch.backends.fp32_precision)
        self.settings = (
            # Of products in float32. "none" is: as the next says.
            next((each for each in precisions if each != "none"), "ieee"),
            products.allow_bf16_reduced_precision_reduction,
            products.allow_fp16_reduced_precision_reduction,
            products.allow_fp16_accumulation,
            torch.are_deterministic_algorithms_enabled(),
            *(model.lambda_sparse, model.use_top_down, model.global_pool, *vars(model.budget).values()),
        )
        self.key = (
            *(with_loss, cast, images_wanted, tuple(wanted)),
            *(images.shape, images.dtype, images.device, self.settings),
        )
        # The embedding casts images, so they may be stored as it reads them. Random edges depend on every bit.
        narrow = cast and images.dtype == torch.float32 and model.budget.routing != "random"
        self.stored = cast if narrow else images.dtype


class Calculation:
    """A pass and its backward pass over fixed tensors: to be captured, or to be computed once.

    The gradients are those of aliases of the parameters. So hooks on parameters run in the backward pass of the user
    only, and a capture leaves nothing behind in the autograd graph of the parameters.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, conditions: Conditions, parts: Parts, parameters: Sequence[Tensor]
    ) -> None:
        self._model, self._conditions, self._parts = model, conditions, parts
        self._images = images.detach().requires_grad_(conditions.images_wanted)
        pairs = zip(parameters, conditions.wanted, strict=True)
        self._aliases = [parameter.detach().requires_grad_(wanted) for parameter, wanted in pairs]
        self._results: tuple[Tensor, ...] = ()

    def forward(self) -> list[Tensor]:
        """Return the results of the pass."""
        with self._as_the_user():
            self._results = self._model.compute(self._images, with_loss=self._conditions.with_loss)
        return [result.detach() for result in self._results]

    def differentiable(self) -> list[bool]:
        """Return of each result of `forward` whether it has a gradient."""
        return [result.requires_grad for result in self._results]

    def backward(self, d_results: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the gradients of the images and of all parameters, once after `forward`; None if there is none.

        d_results: the gradient of each result; None for a result that is not used.
        """
        pairs = zip(self._results, d_results, strict=True)
        used = [(result, given) for result, given in pairs if given is not None and result.requires_grad]
        self._results = ()
        inputs = (self._images, *self._aliases)
        # Without autocast, which a user has left by the backward pass.
        with torch.autocast(self._images.device.type, enabled=False):
            found = torch.autograd.grad(
                [result for result, _ in used],
                [each for each in inputs if each.requires_grad],
                [given.to(result.dtype) for result, given in used],
                allow_unused=True,
            )
        gradients = iter(found)
        return [next(gradients) if each.requires_grad else None for each in inputs]

    @contextmanager
    def _as_the_user(self) -> Iterator[None]:
        conditions, places = self._conditions, self._parts.places
        cast = {"dtype": conditions.cast} if conditions.cast else {"enabled": False}
        own = [owner[name] for owner, name in places]
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(conditions.trains),
            torch.autocast(self._images.device.type, cache_enabled=False, **cast),
        ):
            try:
                for (owner, name), alias in zip(places, self._aliases, strict=True):
                    owner[name] = alias
                yield
            finally:
                for (owner, name), parameter in zip(places, own, strict=True):
                    owner[name] = parameter


class CapturedPass:
    """The graphs of a pass, and the tensors that they read and write."""

    def __init__(self, graphs, model: nn.Module, images: Tensor, conditions: Conditions, parts: Parts) -> None:
        self.conditions, self._shaped = conditions, [each.detach() for each in parts.parameters]
        with torch.no_grad():
            self._images = torch.empty(images.shape, dtype=conditions.stored, device=images.device).copy_(images)
        calculation = Calculation(model, self._images, conditions, parts, parts.parameters)
        results = calculation.forward()  # outside the graph
        if not conditions.trains:
            del results
            self._forward, self._results = graphs.capture(calculation.forward)
            return
        self.differentiable = calculation.differentiable()
        self._d_results = [
            torch.zeros_like(result) if has_gradient else None
            for result, has_gradient in zip(results, self.differentiable, strict=True)
        ]
        del results
        # In this thread: the one of the engine would have a workspace of its own for matrix products.
        with torch.autograd.set_multithreading_enabled(False):
            self._reached = [self._reached_by(number, calculation) for number in range(len(self._d_results))]
            has_gradient = [any(by) for by in zip(*filter(None, self._reached), strict=True)]
            self._has_image_gradient, *has_gradient = has_gradient
            present = [index for index, each in enumerate(has_gradient) if each]
            types = dict.fromkeys(self._shaped[index].dtype for index in present)
            self._groups = [
                _aligned([index for index in present if self._shaped[index].dtype == dtype], self._shaped)
                for dtype in types
            ]

            def backward() -> list[Tensor]:
                d_images, *found = calculation.backward(self._d_results)
                flat = [_flattened(found, group) for group in self._groups]
                return [*flat, d_images] if self._has_image_gradient else flat

            calculation.forward()
            backward()  # loads all kernels, which a capture may not
            self._forward, self._results = graphs.capture(calculation.forward)
            self._backward, self._gradients = graphs.capture(backward)

    def _reached_by(self, number: int, calculation: Calculation) -> list[bool]:
        """Return whether images and parameters act on this result of the pass."""
        if self._d_results[number] is None:
            return []
        calculation.forward()
        alone = [each if index == number else None for index, each in enumerate(self._d_results)]
        return [gradient is not None for gradient in calculation.backward(alone)]

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return copies of the results of the pass."""
        self._images.copy_(images)
        self._forward()
        return tuple(result.clone() for result in self._results)

    def run_backward(self, d_results: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the gradients of the images and of all parameters, once after `run`, in memory that is theirs alone.

        All gradients of one type are parts of one tensor, so that one copy is enough.
        """
        for own, given in zip(self._d_results, d_results, strict=True):
            if own is not None:
                own.zero_() if given is None else own.copy_(given)
        self._backward()
        copies = [each.clone() for each in self._gradients]
        found: list[Tensor | None] = [None] * (1 + len(self._shaped))
        if self._has_image_gradient:
            found[0] = copies[-1]
        for group, flat in zip(self._groups, copies, strict=False):
            views = _unflatten_dense_tensors(flat, [self._shaped[index] for index in group])
            for index, gradient in zip(group, views, strict=True):
                found[1 + index] = gradient
        pairs = zip(self._reached, self._d_results, d_results, strict=True)
        used = [reached for reached, own, given in pairs if own is not None and given is not None]
        if len(used) < sum(self.differentiable):  # what acts on no result that is used has no gradient, not one of 0
            found = [gradient if any(by) else None for gradient, *by in zip(found, *used, strict=True)]
        return found


def _aligned(numbers: list[int], tensors: Sequence[Tensor]) -> list[int]:
    """Sort tensors that are laid out one after another, so that all but the last few are aligned."""
    return sorted(numbers, key=lambda number: tensors[number].numel() * tensors[number].itemsize % ALIGNMENT != 0)


def _flattened(gradients: Sequence[Tensor], numbers: list[int]) -> Tensor:
    """Return the gradients with these numbers one after another."""
    return torch.cat([gradients[number].reshape(-1) for number in numbers])
