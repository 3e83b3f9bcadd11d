"""The plan of an epoch: all random choices of a run's recipe for one random seed."""

import torch

from afmp.data.augmentation import EpochPlan, epoch_plan, epoch_seed
from afmp.data.mixing import draw_erased, draw_mixes
from afmp.study.run_config import TrainingConfig


def mixes_images(training: TrainingConfig) -> bool:
    """Return whether batches are mixed, by mixup or CutMix."""
    return training.mixup_alpha > 0 or training.cutmix_alpha > 0


def draw_plan(
    training: TrainingConfig, *, num_images: int, image_shape: tuple[int, int], seed: int, epoch: int
) -> EpochPlan:
    """Draw the plan of an epoch (1-based) for `num_images` training images of (height, width) pixels."""
    by = {"seed": seed, "epoch": epoch}
    plan = epoch_plan(num_images, padding=training.crop_padding, flip=training.horizontal_flip, **by)
    if training.erasing_probability:
        plan = plan._replace(
            erased=draw_erased(num_images, image_shape, probability=training.erasing_probability, **by)
        )
    if mixes_images(training):
        alphas = {"mixup_alpha": training.mixup_alpha, "cutmix_alpha": training.cutmix_alpha}
        boxes, weights = draw_mixes(-(-num_images // training.batch_size), image_shape, **alphas, **by)
        plan = plan._replace(mix_boxes=boxes, mix_weights=weights)
    return plan


def seed_dropout(seed: int, epoch: int) -> None:
    """Seed torch's global random state, from which a rival's dropout draws, for one epoch of one random seed."""
    torch.manual_seed(epoch_seed("dropout", seed=seed, epoch=epoch))
