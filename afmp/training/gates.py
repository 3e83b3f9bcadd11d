"""What the gates do on one real test image, in numbers; afmp/figures/diagnostics.py draws them."""

import torch

from afmp.data.augmentation import normalise
from afmp.data.dataset import PreparedDataset

# What "pruned" means. paper: outside the budget, so every channel's gate is exactly 0. notebook: nothing is pruned
# there, and the seed calls an edge pruned when its mean gate is below 0.5 (docs/semantics.md, notebook, point 3).
PRUNED = {
    "paper": lambda gates: (gates == 0).all(dim=-1),
    "notebook": lambda gates: gates.mean(dim=-1) < 0.5,
}


@torch.no_grad()
def describe_gates(model, data: PreparedDataset, *, image_index: int) -> dict:
    """Mean gate of every directed edge and percentage of edges pruned, per layer, for one test image.

    Returns {"mean_gate": L lists of E numbers in 0..1, "pruned_percent": L numbers}.
    """
    image = normalise(data.test_images[image_index : image_index + 1], mean=data.mean, std=data.std)
    per_layer = [gates[0].float() for gates in model.forward_internals(image).gates]  # each (E, D)
    pruned = [PRUNED[model.semantics](gates).float() for gates in per_layer]
    return {
        "mean_gate": [[round(value, 6) for value in gates.mean(dim=-1).tolist()] for gates in per_layer],
        "pruned_percent": [100.0 * mask.mean().item() if mask.numel() else 0.0 for mask in pruned],
    }
