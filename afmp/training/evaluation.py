"""Accuracy of trained models: counts of correct answers, and the test accuracy of the best epoch's weights."""

import copy
from collections.abc import Callable

import torch

from afmp.data.augmentation import normalise
from afmp.data.dataset import PreparedDataset
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import autocast
from afmp.model.stack import Model, stack_models
from afmp.study.run_config import TrainingConfig
from afmp.study.semantics import SEMANTICS
from afmp.training.seed_state import SeedTraining


@torch.no_grad()
def count_correct(stack: Model, images, labels, *, data: PreparedDataset, training: TrainingConfig) -> torch.Tensor:
    """Return the number of correct answers (M,) int64 of each of the M models in a stack.

    images: (n, 3, H, W) uint8; labels: (n,) int64. Does not wait for the device.
    """
    correct = torch.zeros(stack.num_models, dtype=torch.int64, device=images.device)
    size = evaluation_batch_size(stack, len(images), training)
    for batch, answers in zip(images.split(size), labels.split(size), strict=True):
        shown = normalise(batch, mean=data.mean, std=data.std).expand(stack.num_models, *batch.shape)
        with autocast(training.precision, images.device):
            logits = stack(shown)  # (M, B, classes)
        correct += (logits.argmax(dim=-1) == answers).sum(dim=1)
    return correct


def evaluation_batch_size(stack: Model, num_images: int, training: TrainingConfig) -> int:
    """Return the number of images per batch when correct answers are counted.

    Where the answer for an image depends on its batch, it is the training batch size, which is then part of what is
    computed. Otherwise a GPU gets up to four times as many images, in batches of nearly equal size, because without
    gradients they need no more memory.
    """
    if SEMANTICS[stack.semantics].depends_on_batch or next(stack.parameters()).device.type != "cuda":
        return training.batch_size
    num_batches = -(-num_images // (4 * training.batch_size))
    return -(-num_images // num_batches)


class GraphedCount:
    """A count of correct answers (`count_correct` with its arguments) as one CUDA graph of all its batches."""

    def __init__(self, count: Callable[[], torch.Tensor]):
        stream = torch.cuda.Stream()
        run_before_capture(count, stream)
        self.graph, self.correct = capture(count, stream)

    def __call__(self) -> torch.Tensor:
        self.graph.replay()
        return self.correct


def score_best(seeds: list[SeedTraining], *, data: PreparedDataset, training: TrainingConfig) -> None:
    """Record the test accuracy, in percent, of each seed's best weights.

    The weights are loaded into copies of the models, because a captured CUDA graph reads the memory of the models.
    """
    models = [copy.deepcopy(seed.model) for seed in seeds]
    for model, seed in zip(models, seeds, strict=True):
        model.load_state_dict(seed.best_weights)
    if models:
        correct = count_correct(stack_models(models), data.test_images, data.test_labels, data=data, training=training)
        for seed, count in zip(seeds, correct.tolist(), strict=True):
            seed.progress.test_accuracy = 100.0 * count / len(data.test_labels)
