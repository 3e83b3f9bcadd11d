"""Augmentation: reproducible random choices, and the same pixels as torchvision."""

import pytest
import torch
import torchvision.transforms.functional as vision

from afmp.data.augmentation import crop_and_normalise, crop_positions, epoch_plan, normalise, pad_images


def test_the_plan_of_an_epoch_depends_only_on_seed_and_epoch():
    torch.manual_seed(1)
    plan = epoch_plan(1000, seed=3, epoch=7)
    torch.manual_seed(2)
    again = epoch_plan(1000, seed=3, epoch=7)
    assert all(torch.equal(a, b) for a, b in zip(plan, again, strict=True))
    assert torch.equal(plan.order.sort().values, torch.arange(1000))
    assert plan.offsets.shape == (1000, 2) and plan.offsets.dtype == torch.int64 and plan.flips.dtype == torch.bool
    assert plan.offsets.unique().tolist() == list(range(9)) and 400 < plan.flips.sum() < 600
    for seed, epoch in ((3, 8), (4, 7), (7, 3), (37, 0)):
        other = epoch_plan(1000, seed=seed, epoch=epoch)
        assert (other.order == plan.order).float().mean() < 0.02
        assert 0.4 < (other.flips == plan.flips).float().mean() < 0.6
    plain = epoch_plan(1000, seed=3, epoch=7, padding=0, flip=False)
    assert torch.equal(plain.order, plan.order)
    assert not plain.offsets.any() and not plain.flips.any()


@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (8, 12, 3), (5, 5, 0)])
def test_augmentation_equals_torchvision_image_by_image(height, width, padding):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, height, width), generator=generator, dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    _, offsets, flips = epoch_plan(64, seed=0, epoch=0, padding=padding)[:3]
    expected = []
    for image, (top, left), flip in zip(images, offsets.tolist(), flips.tolist(), strict=True):
        image = vision.crop(vision.pad(image, [padding]), top, left, height, width)
        image = vision.hflip(image) if flip else image
        expected.append(vision.normalize(image.float() / 255, mean.tolist(), std.tolist()))
    padded, every = pad_images(images, padding), torch.arange(64)
    result = crop_and_normalise(padded, *crop_positions(padded, every, offsets, flips), mean=mean, std=std)
    assert result.dtype == torch.float32 and result.is_contiguous()
    torch.testing.assert_close(result, torch.stack(expected), rtol=1e-6, atol=1e-6)
    still = crop_positions(padded, every, torch.full((64, 2), padding), torch.zeros(64, dtype=bool))
    assert torch.equal(crop_and_normalise(padded, *still, mean=mean, std=std), normalise(images, mean, std))
