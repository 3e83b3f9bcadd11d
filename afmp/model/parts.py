"""The parts of a model, to see whether a captured pass still computes what the model would."""

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from afmp.model.linear import has_hooks

# Modules of PyTorch that may be in the model. Others may keep a state, or call what a graph cannot repeat.
FOREIGN = (nn.ModuleList, nn.ModuleDict, nn.Sequential, nn.Linear, nn.ReLU, nn.Identity)


class Parts:
    """The modules, parameters and buffers inside a model, to see whether any of them was replaced or moved."""

    def __init__(self, model: nn.Module) -> None:
        # Nothing here refers to the model itself: such a circle would keep its memory until garbage is collected.
        self._inner = [module for module in model.modules() if module is not model]
        self._children = [model._modules, *(module._modules for module in self._inner)]
        self._modules, self._types = _listed(self._children), list(map(type, self._inner))
        self._attributes = [vars(module) for module in self._inner]
        self._parameters = [model._parameters, *(module._parameters for module in self._inner)]
        self._buffers = [model._buffers, *(module._buffers for module in self._inner)]
        # Where each parameter is.
        self.places = [(own, name) for own in self._parameters for name, each in own.items() if each is not None]
        self._tensors = self._all_tensors()  # kept, so that no other tensor can have the identity of one of them
        self.parameters = self._tensors[: len(self.places)]
        self._stored = list(map(_stored, self._tensors))
        are_parameters = all(type(each) is nn.Parameter for each in self.parameters)
        self._are_known = are_parameters and all(map(_is_known, (model, *self._inner)))

    def _all_tensors(self) -> list[Tensor]:
        return _listed(self._parameters) + _listed(self._buffers)

    def are_unchanged(self) -> bool:
        """Return True if every module and tensor is still the same, stored as it was."""
        tensors = self._all_tensors()
        return (
            _listed(self._children) == self._modules
            and list(map(type, self._inner)) == self._types
            and list(map(id, tensors)) == list(map(id, self._tensors))
            and list(map(_stored, tensors)) == self._stored
        )

    def can_replay(self) -> bool:
        """Return True if all modules are AFMP's own or plain ones, and calling them runs nothing else."""
        return (
            self._are_known
            and not any(map(has_hooks, self._inner))
            and not any("forward" in each or "_compiled_call_impl" in each for each in self._attributes)
        )


def _listed(owners: list[dict]) -> list:
    return [each for own in owners for each in own.values() if each is not None]


def _stored(tensor: Tensor) -> tuple | None:
    """Return address and layout: `tensor.data = other` changes them within the same tensor."""
    return None if is_lazy(tensor) else (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)


def _is_known(module: nn.Module) -> bool:
    if isinstance(module, (nn.Linear, nn.LayerNorm)) and module._parameters.get("weight") is None:
        return False  # a wrapper has put another tensor in its place
    return type(module).__module__.startswith("afmp.model.") or type(module) in FOREIGN
