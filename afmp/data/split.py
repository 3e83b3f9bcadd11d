"""Which images a semantics trains and validates on."""

from dataclasses import dataclass

import torch

from afmp.data.augmentation import PaddedImages, pad_images
from afmp.data.dataset import PreparedDataset, stratified_holdout


@dataclass
class Split:
    """Training and validation images on the device, and how a result calls the latter.

    train_images and train_labels are the whole training set; train_index (n,) says which of them are trained on.
    """

    train_images: PaddedImages
    train_labels: torch.Tensor
    train_index: torch.Tensor
    val_images: torch.Tensor
    val_labels: torch.Tensor
    validation_set: str


def split_dataset(data: PreparedDataset, *, semantics: str, fraction: float, padding: int) -> Split:
    """What a semantics validates on: `paper` holds out part of the training images, `notebook` takes the test set.

    The training images are padded for crops here, once, by `padding` pixels a side.
    """
    device = data.train_images.device
    images = pad_images(data.train_images, padding)
    if semantics == "notebook":
        every = torch.arange(len(data.train_labels), device=device)
        return Split(images, data.train_labels, every, data.test_images, data.test_labels, "test")
    train_index, val_index = (index.to(device) for index in stratified_holdout(data.train_labels.cpu(), fraction))
    val_images, val_labels = data.train_images[val_index], data.train_labels[val_index]
    return Split(images, data.train_labels, train_index, val_images, val_labels, "train_holdout")
