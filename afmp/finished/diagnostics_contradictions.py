"""Contradictions in diagnostics: where gates disagree with the study, with the graph of the model, or with each other.

Each one is the second half of a sentence that starts with the file's path.
"""

from collections.abc import Iterator

from afmp.finished.differences import differences
from afmp.model.stack import Model
from afmp.study.run_config import RunConfig
from afmp.study.semantics import SEMANTICS

# Gates are written with six digits.
WRITTEN = 1e-6


def of_diagnostics(diagnostics: dict, config: RunConfig, model: Model) -> Iterator[str]:
    """Yield the contradictions of valid diagnostics with their run and with an untrained model of it."""
    found, expected = sorted(map(int, diagnostics["epochs"])), config.visualized_epochs
    if found != expected:
        yield f"has epochs {found}, the study says {expected}"
    graph = {
        "image_index": 0,
        "patch_size": config.model.patch_size,
        "positions": model.static_positions.tolist(),
        "edge_index": model.directed_edge_index.tolist(),
    }
    yield from differences(diagnostics, graph, "the model of its configuration says")
    num_edges = model.directed_edge_index.shape[1]
    for epoch, content in diagnostics["epochs"].items():
        gates, pruned = content["mean_gate"], content["pruned_percent"]
        if [len(layer) for layer in gates] != [num_edges] * config.model.num_layers or len(pruned) != len(gates):
            yield f"epoch {epoch} has not one gate for each of {num_edges} edges in {config.model.num_layers} layers"
            continue
        for layer, (values, percent) in enumerate(zip(gates, pruned, strict=True)):
            number = percent * num_edges / 100
            low, high = _possible_pruned(values, model)
            if abs(number - round(number)) > 0.01 or not low <= round(number) <= high:
                yield (
                    f"epoch {epoch}, layer {layer}: pruned_percent is {percent}, but its gates have "
                    f"{low if low == high else f'{low} to {high}'} pruned of {num_edges} edges"
                )
                break


def _possible_pruned(gates: list[float], model: Model) -> tuple[int, int]:
    """Return the smallest and the largest number of pruned edges that these mean gates allow."""
    if not SEMANTICS[model.semantics].prunes:
        return sum(gate < 0.5 - WRITTEN for gate in gates), sum(gate < 0.5 + WRITTEN for gate in gates)
    zeros = sum(gate == 0 for gate in gates)
    pruned = len(gates) - model.top_k
    # A kept edge may have a gate that rounds to 0; a pruned edge has no other.
    return min(pruned, zeros), zeros
