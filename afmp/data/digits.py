"""The handwritten digits that ship with scikit-learn: the source that needs no network."""

import numpy as np

from afmp.data.source_images import SourceImages


def read_digits() -> SourceImages:
    """Return the 1,797 8x8 digits (Alpaydin and Kaynak 1998). Every fifth image of a class is a test image."""
    from sklearn.datasets import load_digits  # only this source pays for importing scikit-learn

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[:, None], 3, axis=1)
    labels = digits.target.astype(np.int64)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    class_names = [str(label) for label in range(10)]
    return SourceImages("digits", images[~test], labels[~test], images[test], labels[test], class_names)
