"""A module whose weights contain its graph, under the names of the original notebook."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from afmp.errors import AfmpError
from afmp.message_passing.neighbours import (
    Graph,
    Neighbours,
    build_neighbours,
    edges_by_offset,
    slot_lengths,
    slot_offsets,
)
from afmp.model.scaffold import edge_lengths


class GraphModule(nn.Module):
    """Base of a model over one scaffold. The graph is saved with the weights, and loaded weights replace it.

    Saved: static_positions (N, 2) in pixels, edge_index (2, stored edges), and their lengths edge_attr.
    Derived from these: directed_edge_index (2, E), receiver first, the neighbour tables, and with `reads_offsets` the
    direction of each edge; with `lengths_only` the edge has (length, 0) in place of its direction.
    """

    def __init__(
        self,
        positions: Tensor,
        edge_index: Tensor,
        directed_edges: Callable[[Tensor], Tensor],
        *,
        reads_offsets: bool = False,
        lengths_only: bool = False,
    ) -> None:
        super().__init__()
        self._directed_edges, self._reads_offsets, self._lengths_only = directed_edges, reads_offsets, lengths_only
        self.register_buffer("static_positions", positions)
        self.register_buffer("edge_index", edge_index.to(positions.device))
        self.register_buffer("edge_attr", edge_lengths(positions, self.edge_index))
        self._lay_out_graph()

    @property
    def num_patches(self) -> int:
        """N, nodes per image."""
        return len(self.static_positions)

    @property
    def num_directed_edges(self) -> int:
        """E, edges (receiver <- sender) per image, in the order of `directed_edge_index`."""
        return self.directed_edge_index.shape[1]

    @property
    def graph(self) -> Graph:
        """The scaffold in the form that layers read."""
        if not self._reads_offsets:
            return Graph(self.tables, self.edge_slots)
        by_offset = self.direction_slots, self.direction_start
        return Graph(self.tables, self.edge_slots, self.offsets, self.offset_index, *by_offset)

    @property
    def tables(self) -> Neighbours:
        """The scaffold as neighbour tables."""
        return Neighbours(self.nbr, self.valid, self.rev, self.dist)

    def _lay_out_graph(self) -> None:
        directed = self._directed_edges(self.edge_index)
        tables, edge_slots = build_neighbours(directed, self.static_positions)
        derived = {"directed_edge_index": directed, "edge_slots": edge_slots, **tables._asdict()}
        if self._reads_offsets:
            offsets, index = self._slot_offsets(tables.nbr)
            slots, start = edges_by_offset(edge_slots, index, len(offsets))
            derived |= {"offsets": offsets, "offset_index": index, "direction_slots": slots, "direction_start": start}
        for name, tensor in derived.items():
            self.register_buffer(name, tensor, persistent=False)

    def _slot_offsets(self, nbr: Tensor) -> tuple[Tensor, Tensor]:
        offsets, index = slot_offsets(self.static_positions, nbr)
        if self._lengths_only:
            offsets = torch.stack([offsets.norm(dim=1), torch.zeros_like(offsets[:, 0])], dim=1)
        return offsets, index

    def _load_from_state_dict(self, state_dict, prefix, *arguments) -> None:
        names = ("static_positions", "edge_index", "edge_attr")
        loaded = [state_dict[prefix + name] for name in names if prefix + name in state_dict]
        if len(loaded) < len(names):  # torch reports what is missing
            super()._load_from_state_dict(state_dict, prefix, *arguments)
            return
        check_graph(*loaded, num_patches=self.num_patches)
        # The graph in the weights may have more or fewer edges than the one built here.
        self.edge_index = self.edge_index.new_empty(loaded[1].shape)
        self.edge_attr = self.edge_attr.new_empty(loaded[2].shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if not self.static_positions.is_meta:  # there, loading has no effect
            self._lay_out_graph()

    def _apply(self, fn, recurse: bool = True) -> "GraphModule":
        before = self.static_positions.dtype
        super()._apply(fn, recurse)
        if self.static_positions.dtype != before and not self.static_positions.is_meta:
            # Computed again, not converted: a converted float32 length is wrong from the eighth digit on.
            self.edge_attr = edge_lengths(self.static_positions, self.edge_index)
            self.dist = slot_lengths(self.static_positions, self.nbr)
            if self._reads_offsets:
                self.offsets, _ = self._slot_offsets(self.nbr)
        return self


def check_graph(positions: Tensor, edge_index: Tensor, edge_attr: Tensor, *, num_patches: int) -> None:
    """Raise AfmpError unless a graph from a weights file fits a model of `num_patches` patches."""
    if tuple(positions.shape) != (num_patches, 2):
        raise AfmpError(
            f"the weights contain static_positions of shape {tuple(positions.shape)}, and this model has "
            f"{num_patches} patches: build it with the img_size and patch_size the weights were trained with"
        )
    if edge_index.dtype != torch.int64 or edge_index.dim() != 2 or len(edge_index) != 2:
        raise AfmpError(
            f"the weights contain an edge_index of type {edge_index.dtype} and shape {tuple(edge_index.shape)}: "
            "allowed is torch.int64 of shape (2, edges)"
        )
    pairs = edge_index.cpu().numpy()
    if pairs.size and (pairs.min() < 0 or pairs.max() >= num_patches):
        raise AfmpError(
            f"the weights contain an edge_index with entries {pairs.min()} to {pairs.max()}: allowed are the "
            f"indices of this model's patches, 0 to {num_patches - 1}"
        )
    if (pairs[0] == pairs[1]).any() or len(np.unique(pairs[0] * num_patches + pairs[1])) < pairs.shape[1]:
        raise AfmpError("the weights contain an edge_index with an edge from a patch to itself or the same edge twice")
    lengths = edge_lengths(positions.cpu(), edge_index.cpu()).double()
    if edge_attr.shape != lengths.shape or not torch.allclose(edge_attr.cpu().double(), lengths, rtol=1e-2):
        raise AfmpError("the weights contain another edge_attr than the distances of static_positions along edge_index")
