"""Edge scores and gated sums with a kernel for each direction, for the tests of their fast paths.

The plain functions store edges x channels, and autograd computes their gradients.
"""

import torch
from plain_layers import DEVICE, GRAPHS, normal, tables_of

from afmp.message_passing.neighbours import Graph, edges_by_offset, slot_offsets

RANK = 3


def graph_of(name, dtype=torch.float64) -> Graph:
    """Return one of GRAPHS of plain_layers, with the offsets of its slots."""
    tables, edge_slots = tables_of(name, dtype)
    offsets, offset_index = slot_offsets(GRAPHS[name][1], tables.nbr.cpu())
    offset_index = offset_index.to(DEVICE)
    by_offset = edges_by_offset(edge_slots, offset_index, len(offsets))
    return Graph(tables, edge_slots, offsets.to(DEVICE, dtype), offset_index, *by_offset)


def leaf(*shape, generator, dtype, scale=1.0):
    return normal(*shape, generator=generator, scale=scale).to(DEVICE, dtype).requires_grad_()


def score_inputs(graph, models, images, *, predicts=True, dtype=torch.float64, rank=RANK) -> dict:
    """Return random arguments of `edge_scores`. The nodes have type `dtype`, the weights float32 or wider."""
    generator, wide = torch.Generator().manual_seed(0), torch.promote_types(dtype, torch.float32)
    settings = {"generator": generator, "dtype": wide}
    return {
        "mapped": leaf(models, images, len(graph.neighbours.nbr), 6 * rank, generator=generator, dtype=dtype),
        "error": leaf(models, rank, **settings) if predicts else None,
        "direction": leaf(models, len(graph.offsets), rank, **settings),
        "out": leaf(models, rank, **settings),
        "out_bias": leaf(models, 1, **settings),
    }


def sum_inputs(graph, models, images, channels, *, keep_share=None, dtype=torch.float64) -> dict:
    """Return random arguments of `directed_sum`; keep_share: the share of edges that is kept, None for all."""
    generator, wide = torch.Generator().manual_seed(1), torch.promote_types(dtype, torch.float32)
    (nodes, slots), offsets = graph.neighbours.nbr.shape, len(graph.offsets)
    settings = {"generator": generator, "dtype": wide}
    keep = torch.rand(models, images, nodes, slots, generator=generator).to(DEVICE) < (keep_share or 0)
    return {
        "nodes": leaf(models, images, nodes, channels, generator=generator, dtype=dtype),
        "scores": leaf(models, images, nodes, slots, **settings),
        "keep": None if keep_share is None else keep & graph.neighbours.valid,
        "kernel": leaf(models, offsets, channels, **settings),
        "gate_weight": leaf(models, channels, scale=0.3, **settings),
        "gate_bias": leaf(models, offsets, channels, scale=0.3, **settings),
    }


def converted(inputs: dict, dtype) -> dict:
    """Return the same arguments as leaves of another type."""
    floats = {name: part for name, part in inputs.items() if part is not None and part.is_floating_point()}
    return inputs | {name: part.detach().to(dtype).requires_grad_() for name, part in floats.items()}


def plain_edge_scores(mapped, graph, *, error, direction, out, out_bias):
    """Return the scores (M, B, N, K), 0 where `valid` is false."""
    receiving, sending = mapped.to(out.dtype).chunk(2, dim=-1)
    q, a, p = receiving[..., None, :].chunk(3, dim=-1)  # (M, B, N, 1, r) each
    k, b, z = sending[:, :, graph.neighbours.nbr].chunk(3, dim=-1)  # (M, B, N, K, r) each
    hidden = a + b + direction[:, None, graph.offset_index]
    if error is not None:
        size = torch.linalg.vector_norm(z - p, dim=-1, keepdim=True) / z.shape[-1] ** 0.5
        hidden = hidden + size * error[:, None, None, None]
    scores = (q * k).sum(dim=-1) / q.shape[-1] ** 0.5 + (hidden.relu() * out[:, None, None, None]).sum(dim=-1)
    return torch.where(graph.neighbours.valid, scores + out_bias[:, :, None, None], 0)


def plain_directed_sum(nodes, graph, *, scores, keep, kernel, gate_weight, gate_bias):
    """Return the sums (M, B, N, D), and the sum of all gates per image (M, B)."""
    keep = graph.neighbours.valid if keep is None else keep
    logits = scores[..., None] * gate_weight[:, None, None, None] + gate_bias[:, None, graph.offset_index]
    gates = torch.sigmoid(logits) * keep[..., None]  # (M, B, N, K, D)
    wide = nodes.to(gates.dtype)
    heard = (gates * kernel[:, None, graph.offset_index] * wide[:, :, graph.neighbours.nbr]).sum(dim=3)
    return ((1 + kernel[:, None, :1]) * wide + heard).to(nodes.dtype), gates.sum(dim=(2, 3, 4))


def outcome(function, graph, inputs, seed=2) -> list[torch.Tensor]:
    """Return the results of a function, and the gradients of a random combination of them."""
    arguments = dict(inputs)
    outputs = function(arguments.pop(next(iter(inputs))), graph, **arguments)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    generator = torch.Generator().manual_seed(seed)
    target = sum((normal(*part.shape, generator=generator).to(part) * part).double().sum() for part in outputs)
    leaves = [part for part in inputs.values() if part is not None and part.requires_grad]
    gradients = torch.autograd.grad(target, leaves, allow_unused=True)
    zeros = [torch.zeros_like(leaf) if d is None else d for d, leaf in zip(gradients, leaves, strict=True)]
    return [*outputs, *zeros]
