"""Stacks: models of one shape on a leading model axis. So the random seeds of a run train in the same kernels."""

import copy

import torch

from afmp.errors import AfmpError
from afmp.model.afmp import AFMP
from afmp.model.linear import LayerNorm, Linear, has_hooks
from afmp.model.paper import PredictiveRouter
from afmp.model.rival import Rival

Model = AFMP | Rival  # what training trains
STACKABLE = (Linear, LayerNorm, PredictiveRouter)  # modules whose parameters may have a model axis


def stack_models(models: list[Model]) -> Model:
    """Return one AFMP whose parameters all have a leading model axis M = len(models), with the graph that all share.

    The parameters of `models` become views of the stack's memory: an update of one changes both. Hooks of the first
    model are also in the stack. Raises AfmpError if the models do not have the same graph, if another model has hooks,
    or if a module was replaced by one whose parameters cannot have a model axis.

    A rival is its own stack, and cannot be stacked with another.
    """
    first = models[0]
    if isinstance(first, Rival):
        if len(models) > 1:
            raise AfmpError(f"{len(models)} models of timm: they cannot be stacked; stack each alone.")
        return first
    if not all(torch.equal(model.edge_index, first.edge_index) for model in models):
        raise AfmpError(
            "edge_index: the models to be stacked have different graphs; allowed is one graph. "
            "Delete the checkpoints of this run that another version of SciPy wrote."
        )
    if any(has_hooks(module) for model in models[1:] for module in model.modules()):
        raise AfmpError("a model to be stacked has hooks, which the stack would not run; hook the stack instead")
    for name, module in first.named_modules():
        if next(module.parameters(recurse=False), None) is not None and type(module) not in STACKABLE:
            raise AfmpError(
                f"{name} is {type(module).__name__}: a stack needs a model axis in front of each parameter, which only "
                f"AFMP's own modules can have; allowed are {', '.join(kind.__name__ for kind in STACKABLE)}"
            )
    stack = copy.deepcopy(first)
    stack.num_models = len(models)
    parameters = [dict(model.named_parameters()) for model in models]
    for name in parameters[0]:
        stacked = torch.stack([own[name].detach() for own in parameters])
        stacked = torch.nn.Parameter(stacked, requires_grad=parameters[0][name].requires_grad)
        module, _, leaf = name.rpartition(".")
        stack.get_submodule(module).register_parameter(leaf, stacked)
        for own, view in zip(parameters, stacked.detach().unbind(), strict=True):
            own[name].data = view
    return stack


def hand_out_gradients(stack: Model, models: list[Model]) -> None:
    """Give each model its part of the stack's gradients, as views; None where the stack has no gradient."""
    if isinstance(stack, Rival):  # they are its own
        return
    for stacked, *own in zip(stack.parameters(), *(model.parameters() for model in models), strict=True):
        gradients = [None] * len(own) if stacked.grad is None else stacked.grad.unbind()
        for parameter, gradient in zip(own, gradients, strict=True):
            parameter.grad = gradient


def changing_tensors(stack: Model) -> list[torch.Tensor]:
    """Return all tensors that training changes: the parameters, and of a rival its buffers, as BatchNorm's statistics.

    Each has a model axis M in front, or is of the only model. They are the stack's own tensors, not copies.
    """
    return [*stack.parameters(), *(stack.buffers() if isinstance(stack, Rival) else ())]
