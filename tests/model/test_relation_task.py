"""A task that needs messages between patches is learnt by `paper`, and cannot be by `notebook`."""

import pytest
import torch

from afmp import AFMP

PATCH = 4
STEPS = 250
BATCH = 64
# The two patterns of a patch, opposite in every pixel: neither alone, nor the mean of both, says if two are the same.
PATTERN = torch.randn(3, PATCH, PATCH, generator=torch.Generator().manual_seed(0))


def batch_of_relations(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 3, 4, 8) of two patches side by side, with noise; class 1 where both hold the same pattern."""
    signs = torch.randint(0, 2, (BATCH, 2), generator=generator) * 2 - 1
    patches = signs[:, :, None, None, None] * PATTERN
    images = torch.cat([patches[:, 0], patches[:, 1]], dim=-1)
    noise = 0.1 * torch.randn(images.shape, generator=generator)
    return images + noise, (signs[:, 0] == signs[:, 1]).long()


def accuracy_after_training(**settings) -> float:
    torch.manual_seed(0)
    model = AFMP(num_layers=2, d_model=16, num_classes=2, img_size=(PATCH, 2 * PATCH), patch_size=PATCH, **settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images, labels = batch_of_relations(generator)
        logits, sparsity_loss = model.forward_train(images)
        optimizer.zero_grad()
        (torch.nn.functional.cross_entropy(logits, labels) + sparsity_loss).backward()
        optimizer.step()
    with torch.no_grad():
        answers = [
            (model(images).argmax(1) == labels) for images, labels in (batch_of_relations(generator) for _ in range(8))
        ]
    return torch.cat(answers).float().mean().item()


@pytest.mark.parametrize(
    "settings",
    [{"sparsity": 0.5}, *(pytest.param({key: False}, marks=pytest.mark.long) for key in ("is_sparse", "use_top_down"))],
)
def test_paper_learns_the_relation(settings):
    assert accuracy_after_training(semantics="paper", **settings) > 0.95


def test_notebook_does_not():
    # Each patch adds its own vote, so the best of such models is right on three of the four pairs.
    assert accuracy_after_training(semantics="notebook") < 0.8
