"""The split into training and validation images."""

import pytest
import torch

from afmp.data.split import stratified_holdout
from afmp.errors import AfmpError


def test_the_holdout_is_stratified_complete_and_always_the_same():
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 3 + [3] * 2 + [4])[torch.randperm(76)]
    train, val = stratified_holdout(labels, 0.1)
    assert train.dtype == val.dtype == torch.int64
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(76))
    assert torch.equal(train, train.sort().values) and torch.equal(val, val.sort().values)
    assert torch.bincount(labels[val], minlength=5).tolist() == [5, 2, 1, 1, 0]
    assert torch.equal(stratified_holdout(labels, 0.1)[1], val)
    assert torch.bincount(labels[stratified_holdout(labels, 0.99)[0]]).tolist() == [1, 1, 1, 1, 1]
    # A golden value: runs of different years and NumPy versions must hold out the same images.
    assert stratified_holdout(torch.arange(20) % 2, 0.2)[1].tolist() == [4, 7, 11, 16]
    with pytest.raises(AfmpError, match=r"found 1.0"):
        stratified_holdout(labels, 1.0)


@pytest.mark.promise("empty-validation")
@pytest.mark.parametrize("num_classes", [1, 3])
def test_a_class_of_one_image_each_leaves_nothing_to_validate_on(num_classes):
    with pytest.raises(
        AfmpError, match=rf"the {num_classes} classes has only one\. It takes at least 2 training images"
    ):
        stratified_holdout(torch.arange(num_classes), 0.2)
    assert stratified_holdout(torch.tensor([0, 1, 1]), 0.2)[1].numel() == 1
