"""The one hot operation: scores on the edges, the strongest kept, gated messages summed at every node.

`operation` is what runs, `reference` the same two functions in the plainest form, `selection` the choice of
edges, `neighbours` the tables all of them walk.
"""

from afmp.message_passing.neighbours import Neighbours, build_neighbours
from afmp.message_passing.operation import ScoreWeights, edge_scores, gated_sum
from afmp.message_passing.selection import top_k_edges

__all__ = ["Neighbours", "ScoreWeights", "build_neighbours", "edge_scores", "gated_sum", "top_k_edges"]
