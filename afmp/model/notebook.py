"""What the seed's notebook computes, as opposed to what its text says: all of `notebook`, and nothing else.

1. One graph's edge list indexes the flattened (B * N, D) states: only the first image of a batch exchanges
   messages, every other image is a per-patch MLP.
2. A Delaunay edge is stored once, a < b, and read as a <- b: only the lower index receives. (A window
   scaffold is stored in both directions.)
3. The budget, k * batch_size, is set against the edges of that one graph, and k comes from the configured
   batch size, not from the batch at hand: nothing is pruned, unless sparsity or batch size is small.
4. A pruned score becomes 0, so its gate is sigmoid(b_gate), about one half.
5. The top-down pass refines all states but the last, and the readout reads the last: no output changes.

The neighbour tables serve here too: a slot is valid in the stored direction alone, the batch is one image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afmp.message_passing.all_edges.pytorch import edge_scores, gated_sum
from afmp.message_passing.layer import Exchange
from afmp.message_passing.weights import ExchangeWeights, map_nodes
from afmp.model.scaffold import both_directions, build_edges


def stored_edges(positions: Tensor, *, scaffold: str, window_size: int) -> Tensor:
    """The edge list (2, E) that travels in the weights: Delaunay edges once, window edges both ways."""
    edge_index = build_edges(positions, scaffold=scaffold, window_size=window_size)
    return both_directions(edge_index) if scaffold == "window" or positions.shape[1] == 1 else edge_index


def directed_edges(edge_index: Tensor) -> Tensor:
    """The stored list itself, in its own order, read as (receiver, sender)."""
    return edge_index


def kept_edges(model: nn.Module) -> int:
    """Edges that keep their score in a full batch: in the seed's experiments all of them."""
    return _budget(model, model.batch_size) or model.num_directed_edges


def exchange_messages(model: nn.Module, weights: ExchangeWeights, state: Tensor) -> Exchange:
    """One layer on state (M, B, N, D); only the first image's nodes hear anything."""
    tables = model.tables
    first = state[:, :1]
    maps = [weights.message, weights.incoming, weights.outgoing] + ([weights.prediction] if weights.prediction else [])
    message, incoming, outgoing, *prediction = map_nodes(first, maps)
    surprise = {"state": first, "prediction": prediction[0]} if prediction else {}
    scores = edge_scores(incoming, outgoing, weights.score, tables, **surprise)
    listed = tables.valid.expand_as(scores)

    gate_scores = scores
    if budget := _budget(model, state.shape[1]):
        ranked = scores.detach().masked_fill(~listed, -torch.inf).flatten(1)
        threshold = torch.topk(ranked, budget, sorted=False).values.amin(dim=1)
        # Ties with the threshold all stay.
        gate_scores = torch.where(scores >= threshold[:, None, None, None], scores, 0)

    heard, gate_sum = gated_sum(message, gate_scores, listed, weights.gate_weight, weights.gate_bias, tables)
    own = map_nodes(state, [weights.own])[0]
    own = torch.cat([own[:, :1] + heard, own[:, 1:]], dim=1)
    new_state = F.gelu(own)
    return Exchange(new_state, new_state.mean(dim=2), scores, gate_scores, listed, gate_sum)


def pooled_readout(model: nn.Module, exchanges: list[Exchange]) -> Tensor:
    """What the readout reads, (M, B, D): the node mean of the last state, with the top-down pass or without."""
    return exchanges[-1].mean


def _budget(model: nn.Module, num_images: int) -> int:
    """Scores that a batch of `num_images` may keep, where that is fewer than there are; else 0: all stay."""
    if not model.is_sparse:
        return 0
    nodes_per_graph = num_images * model.num_patches // model.batch_size
    budget = int(model.sparsity * nodes_per_graph) * model.batch_size
    return budget if budget < model.num_directed_edges else 0
