"""The parts of a model, to see whether a captured pass still computes what the model would."""

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

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
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        self._hooks = [getattr(module, kind) for module in self._inner for kind in kinds]
        self._parameters = [model._parameters, *(module._parameters for module in self._inner)]
        self._buffers = [model._buffers, *(module._buffers for module in self._inner)]
        # Where each parameter is.
        self.places = [(own, name) for own in self._parameters for name, each in own.items() if each is not None]
        self._tensors = self._all_tensors()  # kept, so that no other tensor can have the identity of one of them
        self.parameters = self._tensors[: len(self.places)]
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        are_parameters = all(type(each) is nn.Parameter for each in self.parameters)
        self._are_known = are_parameters and all(map(_is_known, (model, *self._inner)))

    def _all_tensors(self) -> list[Tensor]:
        return _listed(self._parameters) + _listed(self._buffers)

    def are_unchanged(self) -> bool:
        """Return True if every module and tensor is still the same, in the same memory."""
        tensors = self._all_tensors()
        return (
            _listed(self._children) == self._modules
            and list(map(type, self._inner)) == self._types
            and list(map(id, tensors)) == list(map(id, self._tensors))
            and [tensor.data_ptr() for tensor in tensors] == self._addresses
        )

    def can_replay(self) -> bool:
        """Return True if all modules are AFMP's own or plain ones, and calling them runs nothing else."""
        return (
            self._are_known
            and not any(self._hooks)
            and not _has_any_global_hook()
            and not any("forward" in attributes for attributes in self._attributes)
        )


def _listed(owners: list[dict]) -> list:
    return [each for own in owners for each in own.values() if each is not None]


def _is_known(module: nn.Module) -> bool:
    if isinstance(module, (nn.Linear, nn.LayerNorm)) and module._parameters.get("weight") is None:
        return False  # a wrapper has put another tensor in its place
    return type(module).__module__.startswith("afmp.model.") or type(module) in FOREIGN
