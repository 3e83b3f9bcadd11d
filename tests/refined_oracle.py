"""`refined` as its definition reads: loops over images, nodes and edges, one number or one vector at a time.

Slow and plain on purpose, in whatever type the weights have. It takes a model's weights by their names, and the patch
centres and the stored edges; it shares no code with the package.
"""

import math

import torch

RANK, OCTAVES = 16, 4


def run(model, images):
    """(logits, sparsity_loss, scores, gates, states, refined_states) as `AFMP.forward_internals` gives them."""
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    pairs = {tuple(pair) for pair in model.edge_index.t().tolist()}
    edges = sorted(pairs | {(b, a) for a, b in pairs})  # (receiver, sender)
    per_image = [_run_image(model, weights, image, edges) for image in images]
    logits = torch.stack([image["logits"] for image in per_image])
    by_layer = [
        [torch.stack([image[name][layer] for image in per_image]) for layer in range(len(model.layers))]
        for name in ("scores", "gates", "states", "refined")
    ]
    gates = torch.cat([gate.flatten() for gate in by_layer[1]])
    loss = model.lambda_sparse * gates.mean() if gates.numel() else torch.zeros((), dtype=logits.dtype)
    return logits, loss, *by_layer


def _run_image(model, weights, image, edges):
    size, positions = model.patch_size, weights["static_positions"]
    rows, columns = image.shape[1] // size, image.shape[2] // size
    states = [
        _embedded(weights, image[:, y * size : (y + 1) * size, x * size : (x + 1) * size])
        + _linear(weights, "position_embed.map", _position(y, rows, x, columns, image.dtype))
        for y in range(rows)
        for x in range(columns)
    ]
    history = {"scores": [], "gates": [], "states": [], "refined": []}
    for layer in range(len(model.layers)):
        states, scores, gates = _run_layer(model, weights, f"layers.{layer}", states, positions / size, edges)
        history["states"].append(torch.stack(states))
        history["scores"].append(torch.stack(scores) if scores else torch.zeros(0, dtype=image.dtype))
        history["gates"].append(torch.stack(gates) if gates else torch.zeros(0, model.d_model, dtype=image.dtype))
    refined = list(history["states"])
    for layer in range(len(model.top_down_aggregators) - 1, -1, -1):
        name = f"top_down_aggregators.{layer}"
        pairs = zip(history["states"][layer], refined[layer + 1], strict=True)
        refined[layer] = torch.stack(
            [r + _linear(weights, f"{name}.W_t", _gelu(_norm(weights, f"{name}.norm", h + r))) for h, r in pairs]
        )
    history["refined"] = refined
    read = refined[0] if model.use_top_down else refined[-1]
    mean = sum(read) / len(read)
    return history | {"logits": _linear(weights, "readout.2.map", _norm(weights, "readout.2.norm", mean))}


def _run_layer(model, weights, name, states, steps, edges):
    nodes = [_normalised(h) for h in states]
    maps = [_linear(weights, f"{name}.router.W_in", n).split(RANK) for n in nodes]  # q a p k b z
    scores = []
    for i, j in edges:
        q, a, p = maps[i][:3]
        k, b, z = maps[j][3:]
        error = torch.sqrt(((z - p) ** 2).sum() / RANK)
        if not model.use_errors:
            error = torch.zeros_like(error)
        features = torch.stack([error, *_delta(model, steps[j] - steps[i])])
        hidden = torch.relu(a + b + _linear(weights, f"{name}.router.W_f", features))
        scores.append(q @ k / math.sqrt(RANK) + _linear(weights, f"{name}.router.w", hidden)[0])
    if model.budget.routing == "none":
        scores = [torch.zeros((), dtype=steps.dtype) for _ in edges]
    kept = _kept(model, scores, edges, len(nodes))
    gates, heard = [], [torch.zeros_like(n) for n in nodes]
    for e, (i, j) in enumerate(edges):
        kernel, offset = _directions(weights, name, _delta(model, steps[j] - steps[i]))
        gate = torch.sigmoid(_linear(weights, f"{name}.router.W_gate", scores[e][None]) + offset)
        gates.append(gate if e in kept else torch.zeros_like(gate))
        if e in kept:
            heard[i] = heard[i] + gate * kernel * nodes[j]
    own, _ = _directions(weights, name, torch.zeros(2, dtype=steps.dtype))
    new = []
    for h, n, message in zip(states, nodes, heard, strict=True):
        mixed = _gelu(_linear(weights, f"{name}.pcu.W_1", (1 + own) * n + message))
        new.append(h + _linear(weights, f"{name}.pcu.W_2", mixed))
    return new, scores, gates


def _kept(model, scores, edges, num_nodes):
    if not model.budget.messages:
        return set()
    # sorted() is stable: of equal scores the lower edge comes first.
    ranked = sorted(range(len(edges)), key=lambda e: -scores[e].item())
    if not model.is_sparse:
        return set(ranked)
    if model.budget.edges_per_node is None:
        return set(ranked[: min(len(edges), max(1, math.floor(model.sparsity * num_nodes)))])
    of_node = {i: [e for e in ranked if edges[e][0] == i] for i in range(num_nodes)}
    return {e for best in of_node.values() for e in best[: model.budget.edges_per_node]}


def _delta(model, step):
    step = torch.stack([torch.sign(x) * torch.log2(1 + abs(x)) for x in step])
    if model.use_directions:
        return step
    return torch.stack([step.norm(), torch.zeros_like(step[0])])


def _directions(weights, name, delta):
    hidden = torch.relu(_linear(weights, f"{name}.directions.hidden", delta))
    out = _linear(weights, f"{name}.directions.out", hidden)
    return out[: len(out) // 2], out[len(out) // 2 :]


def _position(y, rows, x, columns, dtype):
    """Waves of the position from -1 to 1 over the image, (row, column) for each wave."""
    places = [2 * (y + 0.5) / rows - 1, 2 * (x + 0.5) / columns - 1]
    waves = [
        wave(2**octave * math.pi / 2 * place)
        for octave in range(OCTAVES)
        for wave in (math.sin, math.cos)
        for place in places
    ]
    return torch.tensor(waves, dtype=dtype)


def _embedded(weights, patch):
    half = patch.shape[-1] // 2 or 1  # a patch of one pixel is not divided
    quarters = [
        patch[:, y : y + half, x : x + half]
        for y in range(0, patch.shape[-1], half)
        for x in range(0, patch.shape[-1], half)
    ]
    hidden = [_gelu(_linear(weights, "embed.W_1", quarter.reshape(-1))) for quarter in quarters]
    return _linear(weights, "embed.W_2", torch.cat(hidden))


def _normalised(x):
    centred = x - x.sum() / len(x)
    variance = (centred * centred).sum() / len(x)
    return centred / torch.sqrt(variance + 1e-5)


def _norm(weights, name, x):
    return _normalised(x) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def _linear(weights, name, x):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]
