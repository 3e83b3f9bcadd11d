"""`paper` as its definition reads: loops over images, nodes and edges, one number or one vector at a time.

Slow and plain on purpose, in whatever type the weights have. It takes a model's weights by their names, and the patch
centres and the stored edges; it shares no code with the package.
"""

import math

import torch


def run(model, images):
    """(logits, sparsity_loss, scores, gates, states, refined_states) as `AFMP.forward_internals` gives them."""
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    positions = weights["static_positions"]
    pairs = {tuple(pair) for pair in model.edge_index.t().tolist()}
    edges = sorted(pairs | {(b, a) for a, b in pairs})  # (receiver, sender)
    num_layers = len(model.layers)

    per_image = [_run_image(weights, image, positions, edges, model, num_layers) for image in images]
    logits = torch.stack([image["logits"] for image in per_image])
    by_layer = {
        name: [torch.stack([image[name][layer] for image in per_image]) for layer in range(num_layers)]
        for name in ("scores", "gates", "states", "refined")
    }
    gates = torch.cat([gate.flatten() for gate in by_layer["gates"]])
    strength = model.lambda_sparse if model.is_sparse and edges else 0.0
    loss = strength * gates.abs().mean() if strength else torch.zeros((), dtype=logits.dtype)
    return logits, loss, by_layer["scores"], by_layer["gates"], by_layer["states"], by_layer["refined"]


def _run_image(weights, image, positions, edges, model, num_layers):
    size = model.patch_size
    nodes = []
    for row in range(0, image.shape[1], size):
        for column in range(0, image.shape[2], size):
            pixels = image[:, row : row + size, column : column + size].reshape(-1)
            centre = torch.tensor([row + size / 2, column + size / 2], dtype=image.dtype)
            nodes.append(_linear(weights, "embed", pixels) + _linear(weights, "position_embed", centre))

    num_kept = min(len(edges), max(1, math.floor(model.sparsity * len(nodes)))) if model.is_sparse else len(edges)
    states, all_scores, all_gates = [], [], []
    for layer in range(num_layers):
        router, pcu = f"layers.{layer}.router", f"layers.{layer}.pcu"
        scores = []
        for i, j in edges:
            error = torch.zeros((), dtype=image.dtype)
            if layer > 0:
                difference = nodes[j] - _linear(weights, f"{router}.W_pred", nodes[i])
                error = torch.sqrt((difference * difference).sum()) if difference.abs().max() > 0 else error
            distance = torch.sqrt(((positions[i] - positions[j]) ** 2).sum())
            query, key = _linear(weights, f"{router}.W_q", nodes[i]), _linear(weights, f"{router}.W_k", nodes[j])
            features = torch.cat([nodes[i], nodes[j], torch.stack([error, distance])])
            hidden = torch.relu(_linear(weights, f"{router}.v.0", features))
            scores.append(query @ weights[f"{router}.U"] @ key + _linear(weights, f"{router}.v.2", hidden)[0])
        # sorted() is stable: of equal scores the lower edge comes first.
        ranked = sorted(range(len(edges)), key=lambda e: -scores[e].item())
        kept = set(ranked[:num_kept])

        heard = [torch.zeros_like(node) for node in nodes]
        gates = []
        for e, (i, j) in enumerate(edges):
            gate = torch.sigmoid(_linear(weights, f"{router}.W_gate", scores[e].reshape(1)))
            gates.append(gate if e in kept else torch.zeros_like(gate))
            heard[i] = heard[i] + gates[e] * _linear(weights, f"{pcu}.W_msg", nodes[j])
        nodes = [
            torch.nn.functional.gelu(_linear(weights, f"{pcu}.W_self", node) + message)
            for node, message in zip(nodes, heard, strict=True)
        ]
        states.append(nodes)
        all_scores.append(torch.stack(scores) if scores else image.new_zeros(0))
        all_gates.append(torch.stack(gates) if gates else image.new_zeros(0, len(nodes[0])))

    refined = list(states)
    if model.use_top_down:
        for layer in range(num_layers - 2, -1, -1):
            name = f"top_down_aggregators.{layer}.W_t"
            refined[layer] = [
                node + _linear(weights, name, parent)
                for node, parent in zip(states[layer], refined[layer + 1], strict=True)
            ]
    read = refined[0] if model.use_top_down else states[-1]
    return {
        "logits": _linear(weights, "readout.2", sum(read) / len(read)),
        "scores": all_scores,
        "gates": all_gates,
        "states": [torch.stack(nodes) for nodes in states],
        "refined": [torch.stack(nodes) for nodes in refined],
    }


def _linear(weights, name, vector):
    return weights[f"{name}.weight"] @ vector + weights[f"{name}.bias"]
