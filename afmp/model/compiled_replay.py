"""Replay under torch.compile: a pass and its backward pass as two operators that replay CUDA graphs.

torch.compile sees each as one operation. What is captured is the pass as torch.compile makes it, so its fused kernels
are kept. Where no graph can be replayed, such as inside a CUDA graph that is made by hand, the operators compute the
compiled pass at once.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from afmp.message_passing.autocast import autocast_dtype
from afmp.model.captured_pass import Calculation, CapturedPass, Conditions, aligned, flattened
from afmp.model.linear import needs_plain_operations
from afmp.model.parts import Parts
from afmp.model.replay import REPLAYS, Replay, Ticket, compute_again

_numbers = itertools.count()


class _Waiting(NamedTuple):
    """A pass that waits for its backward pass: captured, with its ticket, or computed, with its autograd graph."""

    storage: StorageWeakRef  # of the tensor that autograd keeps as long as there may be a backward pass
    ticket: Ticket
    captured: CapturedPass | None
    calculation: Calculation | None


def compiled_replay(model: nn.Module, images: Tensor, *, with_loss: bool) -> tuple[Tensor, ...] | None:
    """Return what `model.compute(images, with_loss=with_loss)` does, as one operation of torch.compile.

    It is None if the caller is to compute it, so that torch.compile traces all operations of the model.
    """
    replay, classifier = model._replay, model.get_classifier()
    if (
        not replay.enabled
        or needs_plain_operations()
        or images.device.type != replay.device_type
        or model.grad_checkpointing
        or not isinstance(classifier, nn.Linear)
        or getattr(model, "_is_replica", False)  # of DataParallel
    ):
        return None
    parameters, cast = list(model.parameters()), autocast_dtype(images)
    dtype = classifier.weight.dtype
    if any(parameter.dtype != dtype for parameter in parameters) or dtype == torch.float64:
        return None
    has_gradients = torch.is_grad_enabled()
    wanted = [has_gradients and parameter.requires_grad for parameter in parameters]
    nodes = () if model.global_pool else (model.num_patches,)
    shape = (*images.shape[:-3], *nodes, classifier.weight.shape[-2])
    logits, sparsity_loss, _ = replayed_pass(
        *(images, parameters, replay.number, with_loss, cast, wanted, has_gradients and images.requires_grad),
        *(list(shape), dtype if cast is None else cast),
    )
    return (logits, sparsity_loss) if with_loss else (logits,)


@torch.library.custom_op("afmp::replayed_pass", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def replayed_pass(
    images: Tensor, parameters: list[Tensor], replay: int, with_loss: bool, cast: torch.dtype | None,
    wanted: list[bool], images_wanted: bool, shape: list[int], dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return logits (`shape`, `dtype`), the sparsity loss in float32, and the number of this pass, a tensor.

    replay: number of the model's `Replay`; cast, wanted, images_wanted: as in `Conditions`.
    """
    owner, model = _owner_of(replay)
    conditions = _conditions(model, images, with_loss, cast, wanted, images_wanted)
    number, ticket = next(_numbers), Ticket()
    token = torch.tensor([number], device="cpu")
    storage, captured, calculation, results = StorageWeakRef(token.untyped_storage()), None, None, None
    waiting = owner.waiting
    for other in [other for other, each in waiting.items() if each.storage.expired()]:
        del waiting[other]
    if owner.enabled and owner.graphs.can_replay(images) and owner.lock.acquire(blocking=False):
        try:
            parts = owner.parts(model)
            if parts is not None and parts.are_at(parameters):
                captured = owner.captured(model, images, conditions, sightings=1)  # compiling takes longer
            if captured is not None:
                results = owner.run(
                    captured, images, lambda: ticket if conditions.trains and not storage.expired() else None
                )
        finally:
            owner.lock.release()
    if results is None:
        calculation = Calculation(model, images, conditions, Parts(model), parameters)
        results = calculation.forward()
    if conditions.trains:
        waiting[number] = _Waiting(storage, ticket, captured, calculation)
    logits, *loss = (result.clone() if calculation else result for result in results)
    sparsity_loss = loss[0].to(torch.float32) if with_loss else images.new_zeros(images.shape[:-4], dtype=torch.float32)
    return logits.to(dtype).contiguous(), sparsity_loss, token


@replayed_pass.register_fake
def _(images, parameters, replay, with_loss, cast, wanted, images_wanted, shape, dtype):
    sparsity_loss = images.new_empty(images.shape[:-4], dtype=torch.float32)
    return images.new_empty(shape, dtype=dtype), sparsity_loss, torch.empty(1, dtype=torch.int64, device="cpu")


@torch.library.custom_op("afmp::replayed_pass_backward", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def replayed_pass_backward(
    d_logits: Tensor, d_sparsity_loss: Tensor, token: Tensor, images: Tensor, parameters: list[Tensor], replay: int,
    with_loss: bool, cast: torch.dtype | None, wanted: list[bool], images_wanted: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the gradients of the wanted parameters, one after another as `_laid_out` sorts them, and of the images.

    The latter is empty if it is not wanted.
    """
    owner, model = _owner_of(replay)
    d_results = (d_logits, d_sparsity_loss) if with_loss else (d_logits,)
    waiting, numbers, gradients = owner.waiting.pop(token.item(), None), _laid_out(parameters, wanted), None
    if waiting is not None and waiting.captured is not None:
        gradients = owner.run_backward(waiting.captured, waiting.ticket, d_results, laid_out=numbers)
    elif waiting is not None:
        gradients = waiting.calculation.backward(d_results)
    if gradients is None:
        conditions = _conditions(model, images, with_loss, cast, wanted, images_wanted)
        gradients = compute_again(model, images, conditions, parameters, d_results)
    d_images, *found = gradients
    if len(found) > 1 or not numbers:  # not laid out yet
        pairs = zip(parameters, found, strict=True)
        found = [torch.zeros_like(each) if gradient is None else gradient for each, gradient in pairs]
        found = [flattened(found, numbers) if numbers else parameters[0].new_empty(0)]
    return found[0], d_images.to(images.dtype).contiguous() if images_wanted else images.new_empty(0)


@replayed_pass_backward.register_fake
def _(d_logits, d_sparsity_loss, token, images, parameters, replay, with_loss, cast, wanted, images_wanted):
    total = sum(parameter.numel() for parameter, each in zip(parameters, wanted, strict=True) if each)
    return parameters[0].new_empty(total), images.new_empty(images.shape if images_wanted else 0)


def _owner_of(number: int) -> tuple[Replay, nn.Module]:
    owner = REPLAYS.get(number)
    model = None if owner is None else owner.owner()
    if model is None:
        raise RuntimeError("AFMP: a compiled pass of a model that no longer exists; compile the new model")
    return owner, model


def _conditions(
    model: nn.Module, images: Tensor, with_loss: bool, cast: torch.dtype | None, wanted: list[bool], images_wanted: bool
) -> Conditions:
    settings = {"with_loss": with_loss, "cast": cast, "wanted": wanted, "images_wanted": images_wanted}
    return Conditions(model, images, **settings, compiled=True)


def _laid_out(parameters: Sequence[Tensor], wanted: Sequence[bool]) -> list[int]:
    return aligned([number for number, each in enumerate(wanted) if each], parameters)


def _save(ctx, inputs, output):
    images, parameters, *settings, _, _ = inputs
    ctx.save_for_backward(images, output[2], *parameters)
    ctx.settings = settings


def _backward(ctx, d_logits, d_sparsity_loss, _):
    images, token, *parameters = ctx.saved_tensors
    wanted, images_wanted = ctx.settings[-2:]
    flat, d_images = replayed_pass_backward(d_logits, d_sparsity_loss, token, images, parameters, *ctx.settings)
    numbers = _laid_out(parameters, wanted)
    gradients: list[Tensor | None] = [None] * len(parameters)
    for number, part in zip(numbers, flat.split([parameters[number].numel() for number in numbers]), strict=True):
        gradients[number] = part.view(parameters[number].shape)
    return d_images if images_wanted else None, gradients, *[None] * 7


replayed_pass.register_autograd(_backward, setup_context=_save)
