"""The images of one dataset as its source gives them: what every reader returns."""

from typing import NamedTuple

import numpy as np


class SourceImages(NamedTuple):
    """Training and test images with their labels. All images have one size, which may differ from the study's."""

    name: str
    train_images: np.ndarray  # (N, 3, h, w) uint8
    train_labels: np.ndarray  # (N,) int64, indices into class_names
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
