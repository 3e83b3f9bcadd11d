"""Gates and pruned edges on one test image, the diagnostics that training records."""

import torch

from afmp.data.augmentation import normalise
from afmp.data.dataset import PreparedDataset
from afmp.study.semantics import SEMANTICS


@torch.no_grad()
def describe_gates(model, data: PreparedDataset, *, image_index: int) -> dict:
    """Return the mean gate of every directed edge and the percentage of pruned edges, per layer, for one test image.

    The result is {"mean_gate": L lists of E numbers in 0..1, "pruned_percent": L numbers}.
    """
    image = normalise(data.test_images[image_index : image_index + 1], mean=data.mean, std=data.std)
    per_layer = [gates[0].float() for gates in model.forward_internals(image).gates]  # each (E, D)
    prunes = SEMANTICS[model.semantics].prunes
    pruned = [((gates == 0).all(dim=-1) if prunes else gates.mean(dim=-1) < 0.5).float() for gates in per_layer]
    return {
        "mean_gate": [[round(value, 6) for value in gates.mean(dim=-1).tolist()] for gates in per_layer],
        "pruned_percent": [100.0 * mask.mean().item() if mask.numel() else 0.0 for mask in pruned],
    }
