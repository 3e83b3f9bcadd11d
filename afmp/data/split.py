"""Training and validation images under each semantics."""

from dataclasses import dataclass

import numpy as np
import torch

from afmp.data.augmentation import PaddedImages, pad_images
from afmp.data.dataset import PreparedDataset
from afmp.errors import AfmpError

VALIDATION_SETS = {True: "test", False: "train_holdout"}  # names in results, by whether the test set validates


@dataclass
class Split:
    """Training and validation images on the device.

    train_images and train_labels are the whole training set. train_index (n,) selects the images to train on.
    validation_set is the name of the validation images in a result.
    """

    train_images: PaddedImages
    train_labels: torch.Tensor
    train_index: torch.Tensor
    val_images: torch.Tensor
    val_labels: torch.Tensor
    validation_set: str


def split_dataset(data: PreparedDataset, *, validate_on_test: bool, fraction: float, padding: int) -> Split:
    """Split a dataset for training.

    With `validate_on_test` all training images are trained on. Otherwise a `fraction` of them is held out for
    validation. The training images are padded for random crops, by `padding` pixels per side.
    """
    device = data.train_images.device
    images = pad_images(data.train_images, padding)
    if validate_on_test:
        every = torch.arange(len(data.train_labels), device=device)
        return Split(
            images, data.train_labels, every, data.test_images, data.test_labels, VALIDATION_SETS[validate_on_test]
        )
    train_index, val_index = (index.to(device) for index in stratified_holdout(data.train_labels.cpu(), fraction))
    val_images, val_labels = data.train_images[val_index], data.train_labels[val_index]
    return Split(images, data.train_labels, train_index, val_images, val_labels, VALIDATION_SETS[validate_on_test])


def stratified_holdout(labels: torch.Tensor, fraction: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the training images and return (training indices, validation indices), both sorted int64 on the CPU.

    `fraction` of every class is held out, but at least one image and never the last one. A class with one image keeps
    it for training. The split is the same for every random seed and run, so that runs are compared on the same images.
    """
    if not 0 < fraction < 1:
        raise AfmpError(f"training/validation_fraction: found {fraction}; allowed is a number between 0 and 1.")
    labels = torch.as_tensor(labels).cpu().numpy()
    # RandomState and not default_rng: NumPy promises only for the former that its stream never changes (NEP 19).
    generator = np.random.RandomState(0)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        held_out[generator.permutation(members)[:count]] = True
    if not held_out.any():
        raise AfmpError(
            f"no training image can be held out for validation: each of the {len(labels)} classes has only one. It "
            "takes at least 2 training images of a class, and 2 of every class to validate on all classes; add images."
        )
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))
