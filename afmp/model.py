"""AFMP put together: patches become nodes, layers of gated messages change them, their mean is read out.

One layer of `paper`, top to bottom, is `exchange_messages`; `notebook` swaps in its own from `notebook.py`.
Shapes: B images, N nodes (patches), D channels, K neighbour slots a node, E directed edges.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp import notebook
from afmp.arguments import check_choice, check_flag, check_number, check_whole_number
from afmp.capsule import PCU, Exchange, TopDownAggregator
from afmp.errors import AfmpError
from afmp.message_passing import Neighbours, build_neighbours, top_k_edges
from afmp.message_passing.neighbours import slot_lengths
from afmp.router import PredictiveRouter, map_nodes
from afmp.scaffold import both_directions, build_edges, check_edges, edge_lengths, grid_positions, grid_shape


@dataclass(frozen=True)
class Internals:
    """Everything a forward pass went through. Edges are in the order of `AFMP.directed_edge_index`.

    logits (B, num_classes); sparsity_loss, a scalar; per layer: scores (B, E) before any is pruned, gates (B, E, D),
    states (B, N, D), and refined_states (B, N, D), equal to states without the top-down pass. Under `notebook` only the
    first image has edges: all other rows of scores and gates are zero.
    """

    logits: Tensor
    sparsity_loss: Tensor
    scores: list[Tensor]
    gates: list[Tensor]
    states: list[Tensor]
    refined_states: list[Tensor]


class AFMPLayer(nn.Module):
    """The weights of one layer: a router, which gates the edges, and a capsule, which changes the nodes."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.router = PredictiveRouter(d_model)
        self.pcu = PCU(d_model)


def kept_edges(model: "AFMP") -> int:
    """k = min(E, max(1, floor(sparsity * N))) edges an image; all of them in a dense model."""
    num_edges = model.num_directed_edges
    # sparsity is meant as the decimal it is written as: 0.29 of 100 is 29, though 0.29 * 100 is 28.999... in binary.
    share = math.floor(round(model.sparsity * model.num_patches, 9))
    return min(num_edges, max(1, share)) if model.is_sparse else num_edges


def exchange_messages(model: "AFMP", layer: AFMPLayer, state: Tensor, *, predicts: bool) -> Exchange:
    """One layer on state (B, N, D): score every edge, keep an image's best, gate and sum their messages."""
    tables = model.tables
    capsule = layer.pcu
    maps = [(capsule.W_self.weight, capsule.W_self.bias), (capsule.W_msg.weight, capsule.W_msg.bias)]
    own, message, *mapped = map_nodes(state, maps + layer.router.node_maps(predicts=predicts))  # (B, N, ...) each

    scores = layer.router.scores(mapped, state, tables)  # (B, N, K)
    if model.top_k < model.num_directed_edges:
        keep = top_k_edges(scores, tables.valid, model.top_k)  # (B, N, K)
    else:
        keep = tables.valid.expand_as(scores)
    heard, gate_sum = layer.router.gated_sum(message, scores, keep, tables)  # (B, N, D), (B,)
    return Exchange(F.gelu(own + heard), scores, scores, keep, gate_sum)


def pooled_readout(model: "AFMP", states: list[Tensor]) -> Tensor:
    """What the readout reads, (B, D): the mean over nodes of r_0, or of the last state without the top-down pass.

    Refinement is linear and every P_l the identity, so the mean of r_0 is the refinement of the means, at 1/N the cost.
    """
    if not model.use_top_down:
        return states[-1].mean(dim=1)
    return model.refine([state.mean(dim=1, keepdim=True) for state in states])[0].squeeze(1)


class Semantics(NamedTuple):
    """Where the two meanings of AFMP part."""

    stored_edges: Callable[..., Tensor]
    directed_edges: Callable[[Tensor], Tensor]
    kept_edges: Callable[["AFMP"], int]
    exchange_messages: Callable[..., Exchange]
    pooled_readout: Callable[["AFMP", list[Tensor]], Tensor]


SEMANTICS = {
    "paper": Semantics(build_edges, both_directions, kept_edges, exchange_messages, pooled_readout),
    "notebook": Semantics(
        notebook.stored_edges,
        notebook.directed_edges,
        notebook.kept_edges,
        notebook.exchange_messages,
        notebook.pooled_readout,
    ),
}


class AFMP(nn.Module):
    """Adaptive message passing between the patches of an image.

    num_layers, d_model (D), num_classes; img_size: pixels, one side or (height, width), both divided by patch_size.
    sparsity: kept edges a node, on average; is_sparse=False keeps every edge, and has no regulariser.
    use_top_down: refine the states from the last layer down to the first before the readout.
    lambda_sparse: weight of the mean gate in `forward_train`'s second result.
    semantics: "paper", what the text describes, or "notebook", what the seed's code computes (see `notebook.py`).
    scaffold: "delaunay" or "window", which joins patches at most window_size numbers apart.
    batch_size: of training; only `notebook` uses it, whose budget is counted from it.

    Raises AfmpError on an argument that is not allowed. The graph travels in the weights (`static_positions`,
    `edge_index`, `edge_attr`): a model that loads weights takes over the graph they were trained with.
    """

    def __init__(
        self,
        num_layers: int = 4,
        d_model: int = 128,
        *,
        num_classes: int = 100,
        img_size: int | tuple[int, int] = 32,
        patch_size: int = 8,
        sparsity: float = 0.3,
        is_sparse: bool = True,
        use_top_down: bool = True,
        lambda_sparse: float = 1e-4,
        semantics: str = "paper",
        scaffold: str = "delaunay",
        window_size: int = 8,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        for name in ("num_layers", "d_model", "num_classes", "batch_size"):
            check_whole_number(name, locals()[name])
        check_number("sparsity", sparsity)
        check_number("lambda_sparse", lambda_sparse)
        check_flag("is_sparse", is_sparse)
        check_flag("use_top_down", use_top_down)
        check_choice("semantics", semantics, tuple(SEMANTICS))
        rows, columns = grid_shape(img_size, patch_size)

        self.semantics = semantics
        self.num_classes, self.patch_size, self.batch_size = num_classes, patch_size, batch_size
        self.grid_shape = rows, columns
        self.sparsity, self.is_sparse, self.use_top_down = sparsity, is_sparse, use_top_down
        self.lambda_sparse = lambda_sparse if is_sparse else 0.0

        # Modules are made in the notebook's order, so that one seed gives both the same initial weights.
        self.embed = nn.Linear(3 * patch_size * patch_size, d_model)
        self.position_embed = nn.Linear(2, d_model)
        positions = grid_positions(img_size, patch_size).to(self.embed.weight)
        self.register_buffer("static_positions", positions)
        stored = SEMANTICS[semantics].stored_edges(positions, scaffold=scaffold, window_size=window_size)
        self._take_graph(stored.to(positions.device))
        self.layers = nn.ModuleList(AFMPLayer(d_model) for _ in range(num_layers))
        self.top_down_aggregators = nn.ModuleList(
            TopDownAggregator(d_model) for _ in range(num_layers - 1 if use_top_down else 0)
        )
        self.readout = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(d_model, num_classes))
