"""Base of all layers: weights under the original notebook's names, and the parameters that the fast paths read."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from afmp.message_passing.layer import LayerOutput
from afmp.message_passing.neighbours import Graph
from afmp.message_passing.weights import LayerParameters, PackedLayer
from afmp.model.linear import Linear, has_hooks, is_linear, needs_plain_operations
from afmp.model.top_down import TopDownAggregator


@dataclass
class Budget:
    """The settings that decide the number of kept edges. All layers of a model share one.

    - sparsity: edges kept per node of the image; is_sparse=False keeps all
    - batch_size: training batch size; only `notebook` uses it
    - edges_per_node: edges kept of each node, in place of `sparsity`; only `refined` uses this and what follows
    - routing: "learned" keeps the best-scored edges, "random" random ones, and "none" has no scores, so it keeps all
    - messages: False keeps no edge
    """

    sparsity: float
    is_sparse: bool
    batch_size: int
    edges_per_node: int | None = None
    routing: str = "learned"
    messages: bool = True

    def edges_per_image(self, num_patches: int, num_edges: int) -> int:
        """Return k = min(E, max(1, floor(sparsity * N))), the edges kept per image; all E in a dense model."""
        # Use sparsity as the decimal in config.yaml: 0.29 * 100 is 28.99... in binary, but must give 29.
        share = math.floor(round(self.sparsity * num_patches, 9))
        return min(num_edges, max(1, share)) if self.is_sparse else num_edges


class Layer(nn.Module):
    """Base of a layer: a router, which gates the edges, and a capsule (PCU), which updates the nodes.

    Each semantics is one subclass in one file (paper.py, notebook.py). It sets `reads_refined_states` and implements
    the methods that raise NotImplementedError here.
    predicts: True if the layer has prediction errors.
    """

    reads_refined_states: ClassVar[bool]  # True if the readout reads the states that the top-down pass refined
    reads_offsets: ClassVar[bool] = False  # True if the layer reads the direction of edges
    first_error: ClassVar[int] = 1  # the first layer that has prediction errors

    def __init__(self, router: nn.Module, pcu: nn.Module, budget: Budget, *, predicts: bool) -> None:
        super().__init__()
        self.budget, self.predicts = budget, predicts
        self.router, self.pcu = router, pcu
        self._readable_types = (type(router), type(pcu))

    @staticmethod
    def stored_edges(positions: Tensor, *, scaffold: str, window_size: int) -> Tensor:
        """Return the edge list (2, stored edges) int64 that weights files contain."""
        raise NotImplementedError

    @staticmethod
    def directed_edges(edge_index: Tensor) -> Tensor:
        """Return the directed edges (2, E), receiver first, of a stored edge list."""
        raise NotImplementedError

    @staticmethod
    def prepare(layers: Sequence["Layer"], state: Tensor, graph: Graph) -> list[PackedLayer | None]:
        """Pack the weights of all layers for a pass over states like `state`; None for a layer on the plain path.

        A semantics that has no fast path need not override this.
        """
        return [None] * len(layers)

    @staticmethod
    def patch_embedding(patch_size: int, d_model: int, in_chans: int = 3) -> nn.Module:
        """Return the map of patches (..., N, C P P), ordered (channel, row, column), to (..., N, D)."""
        return Linear(in_chans * patch_size * patch_size, d_model)

    @staticmethod
    def position_embedding(d_model: int) -> nn.Module:
        """Return the map of patch centres (..., N, 2) in pixels to (..., N, D)."""
        return Linear(2, d_model)

    @staticmethod
    def top_down_step(d_model: int) -> nn.Module:
        """Return one step of the top-down pass, called with the states (..., N, D) of a layer and of the one above."""
        return TopDownAggregator(d_model)

    @staticmethod
    def readout(d_model: int, num_classes: int) -> nn.Module:
        """Return the map of the mean over nodes (..., D) to logits (..., num_classes)."""
        return Linear(d_model, num_classes)

    def unused_maps(self) -> list[nn.Module]:
        """Return the inner modules whose weights act on no result, so that they never have a gradient.

        The first layer of the original notebook has a W_pred that nothing reads. Weights files contain it.
        """
        is_own = type(self.router) is self._readable_types[0]
        return [self.router.W_pred] if is_own and not self.predicts else []

    def num_kept_edges(self, graph: Graph) -> int:
        """Return the number of edges that this layer keeps."""
        raise NotImplementedError

    def prediction_errors(self, state: Tensor, graph: Graph) -> Tensor | None:
        """Return err_e of all slots, (..., N, K), of the layer for state (..., N, D); None if no score has one.

        A semantics without prediction errors need not override this.
        """
        return None

    def gates(self, scores: Tensor, graph: Graph) -> Tensor:
        """Return the gates (..., N, K, D) of scores (..., N, K), as if every slot were kept."""
        return self.router.gates(scores)

    def forward(self, state: Tensor, graph: Graph, weights: PackedLayer | None = None) -> LayerOutput:
        """Update state (B, N, D), or (M, B, N, D) in a stack of models.

        weights: this layer's entry in the result of `prepare`; if it is None, the layer calls `prepare` for itself.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the budget, for the printed model."""
        return f"{self.budget}, predicts={self.predicts}"

    def is_readable(self) -> bool:
        """Return True if fast paths may read the weights of the inner modules instead of calling them.

        The modules must be called if one of them has a hook, or was replaced by one of another class or shape, such as
        an adapter, a parametrised map, or a map without bias; and where only plain operations work.
        """
        if needs_plain_operations():
            return False
        router, pcu = self.router, self.pcu
        if (type(router), type(pcu)) != self._readable_types:
            return False
        v = router.v
        if type(v) is not nn.Sequential or len(v) != 3 or type(v[1]) is not nn.ReLU:
            return False
        maps = (router.W_pred, router.W_q, router.W_k, v[0], v[2], router.W_gate, pcu.W_self, pcu.W_msg)
        if not all(map(is_linear, maps)) or any(map(has_hooks, (router, pcu, v, v[1]))):
            return False
        d, h = pcu.W_self.in_features, router.U.shape[-1]
        shapes = ((d, d), (h, d), (h, d), (h, 2 * d + 2), (1, h), (d, 1), (d, d), (d, d))
        return all(linear.weight.shape[-2:] == shape for linear, shape in zip(maps, shapes, strict=True))

    def parameters_by_kind(self) -> LayerParameters:
        """Return the parameters of this layer, with a model axis in front."""
        router, pcu = self.router, self.pcu
        prediction = router.W_pred if self.predicts else None
        maps = (router.W_q, pcu.W_self, prediction, router.v[0], router.W_k, pcu.W_msg, router.v[2], router.W_gate)
        parts: list[Tensor | None] = []
        for linear in maps:
            parts += (None, None) if linear is None else (per_model(linear.weight, 2), per_model(linear.bias, 1))
        return LayerParameters(per_model(router.U, 2), *parts)


def add_model_axis(layer: Layer, state: Tensor) -> Tensor:
    """Return state (M, B, N, D) of `layer`: M is 1 in a single model, whose state has no model axis."""
    return state if layer.router.U.dim() == 3 else state.unsqueeze(0)


def remove_model_axis(layer: Layer, output: LayerOutput) -> LayerOutput:
    """Return the output of a fast path as `layer` returns it: a single model has no model axis."""
    return output if layer.router.U.dim() == 3 else LayerOutput(*(part.squeeze(0) for part in output))


def per_model(parameter: Tensor, dim: int) -> Tensor:
    """Return a parameter with a model axis in front; in a single model it has `dim` dimensions and no such axis."""
    return parameter if parameter.dim() > dim else parameter[None]
