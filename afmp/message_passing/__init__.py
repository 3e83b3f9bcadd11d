"""The one hot operation: scores on the edges, the strongest kept, gated messages summed at every node.

`exchange` is a whole layer; `operation` the two functions it is made of where many edges are kept, `fused` the same two
by Triton, `reference` in the plainest form. Where few are kept a layer is one function, `fused_exchange` by Triton,
`exchange_few` on a CPU, and its weights lie in one matrix: `packed`, or all layers at once by Triton, `packing`.
`selection` chooses edges, `radix_select` those of `fused_exchange`; `kernels` and `kept_kernels` hold the Triton code,
`neighbours` the tables all of them walk.
"""

from afmp.message_passing.exchange import (
    Exchange,
    ExchangeWeights,
    LinearMap,
    exchange,
    keeps_few,
    linear_map,
    map_nodes,
    per_model,
)
from afmp.message_passing.neighbours import Neighbours, build_neighbours
from afmp.message_passing.operation import ScoreWeights, edge_scores, gated_sum, implementation, uses_triton
from afmp.message_passing.packed import LayerParameters, fold_query, pack_layer
from afmp.message_passing.selection import kept_slots, top_k_edges

__all__ = [
    "Exchange",
    "ExchangeWeights",
    "LayerParameters",
    "LinearMap",
    "Neighbours",
    "ScoreWeights",
    "build_neighbours",
    "edge_scores",
    "exchange",
    "fold_query",
    "gated_sum",
    "implementation",
    "keeps_few",
    "kept_slots",
    "linear_map",
    "map_nodes",
    "pack_layer",
    "per_model",
    "top_k_edges",
    "uses_triton",
]
