"""Random erasing, mixup and CutMix: reproducible random choices, and the same pixels and labels as torchvision."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as vision
from scipy import stats
from torchvision.transforms import v2

from afmp.data.mixing import draw_erased, draw_mixes, erase, mix

SHAPE = (32, 48)
DRAWN = {
    "erased": lambda **by: draw_erased(5000, SHAPE, probability=0.25, **by),
    "mix_boxes": lambda **by: draw_mixes(5000, SHAPE, mixup_alpha=0.8, cutmix_alpha=1.0, **by)[0],
    "mix_weights": lambda **by: draw_mixes(5000, SHAPE, mixup_alpha=0.8, cutmix_alpha=1.0, **by)[1],
}


@pytest.mark.parametrize("what", DRAWN)
def test_what_is_drawn_depends_only_on_seed_and_epoch(what):
    torch.manual_seed(1)
    np.random.seed(1)
    drawn = DRAWN[what](seed=3, epoch=7)
    torch.manual_seed(2)
    np.random.seed(2)
    assert torch.equal(drawn, DRAWN[what](seed=3, epoch=7))
    for seed, epoch in ((3, 8), (4, 7), (7, 3), (37, 0)):
        assert not torch.equal(drawn, DRAWN[what](seed=seed, epoch=epoch))


def test_the_first_numbers_never_change():
    """A run that resumes under another release of NumPy or of this package must draw the same."""
    erased = draw_erased(3, SHAPE, probability=1.0, seed=0, epoch=1)
    assert erased.tolist() == [[5, 8, 24, 26], [1, 20, 11, 43], [14, 24, 23, 29]]
    boxes, weights = draw_mixes(4, SHAPE, mixup_alpha=0.8, cutmix_alpha=1.0, seed=0, epoch=1)
    assert boxes.tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [15, 35, 29, 48]]
    expected = torch.tensor([[0.6365579, 0.6365579], [0.3040953, 0.3040953], [0.8625970, 0.8625970], [1.0, 0.8815104]])
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)


def test_random_erasing_draws_the_areas_and_aspects_of_its_ranges():
    top, left, bottom, right = draw_erased(5000, (200, 300), probability=0.25, seed=0, epoch=1).double().unbind(1)
    drawn = bottom > top
    assert torch.equal(drawn, right > left) and 0.22 < drawn.double().mean() < 0.28
    for part in (top, left, bottom, right):
        assert not part[~drawn].any()
    top, left, bottom, right = (part[drawn] for part in (top, left, bottom, right))
    assert min(top.min(), left.min()) == 0 and bottom.max() == 200 and right.max() == 300
    rows, columns = bottom - top, right - left
    area, aspect = rows * columns / (200 * 300), rows / columns
    assert stats.kstest(area, stats.uniform(0.02, 0.31).cdf).pvalue > 0.01
    assert stats.kstest(aspect.log(), stats.uniform(np.log(0.3), np.log(3.3 / 0.3)).cdf).pvalue > 0.01


@pytest.mark.parametrize("shape", [(1, 1), (2, 64), (3, 3)])
def test_boxes_stay_inside_small_images(shape):
    erased = draw_erased(500, shape, probability=1.0, seed=0, epoch=1)
    mixed, weights = draw_mixes(500, shape, mixup_alpha=0.0, cutmix_alpha=1.0, seed=0, epoch=1)
    for boxes in (erased, mixed):
        top, left, bottom, right = boxes.unbind(1)
        assert top.min() >= 0 and left.min() >= 0 and bottom.max() <= shape[0] and right.max() <= shape[1]
        assert (bottom >= top).all() and (right >= left).all()
    assert (erased[:, 2] > erased[:, 0]).all() and (erased[:, 3] > erased[:, 1]).all()
    assert weights.min() >= 0 and weights.max() <= 1


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), [(0.8, 0.0), (0.0, 0.5), (0.8, 0.5)])
def test_mixes_are_distributed_as_mixup_and_cutmix_say(mixup_alpha, cutmix_alpha):
    boxes, weights = draw_mixes(5000, (100, 100), mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, seed=1, epoch=2)
    outside, own = weights.double().T
    top, left, bottom, right = boxes.double().unbind(1)
    cut = outside == 1
    assert abs(cut.double().mean() - (0.5 if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0))) < 0.03
    assert not boxes[~cut].any() and torch.equal(outside[~cut], own[~cut])
    torch.testing.assert_close(own[cut], 1 - ((bottom - top) * (right - left) / 1e4)[cut], rtol=0, atol=1e-6)
    if mixup_alpha:
        assert stats.kstest(own[~cut], stats.beta(mixup_alpha, mixup_alpha).cdf).pvalue > 0.01
    if cutmix_alpha:  # a box that no border cuts has the area that was drawn, up to whole pixels
        whole = cut & (top > 0) & (left > 0) & (bottom < 100) & (right < 100)
        assert torch.equal((bottom - top)[whole], (right - left)[whole])
        random = np.random.RandomState(0)
        share, row, column = random.beta(cutmix_alpha, cutmix_alpha, 5000), *random.randint(100, size=(2, 5000))
        half = (50 * np.sqrt(1 - share)).astype(int)
        rows, columns = (np.minimum(at + half, 100) - np.maximum(at - half, 0) for at in (row, column))
        assert stats.ks_2samp(own[cut], 1 - rows * columns / 1e4).pvalue > 0.01


def test_erasing_equals_torchvision_image_by_image():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 16, 3, *SHAPE, generator=generator)
    boxes = torch.stack([draw_erased(16, SHAPE, probability=0.5, seed=seed, epoch=1) for seed in (0, 1)])
    expected = images.clone()
    for model in range(2):
        for image, (top, left, bottom, right) in zip(expected[model], boxes[model].tolist(), strict=True):
            image.copy_(vision.erase(image, top, left, bottom - top, right - left, torch.zeros(1)))
    assert torch.equal(erase(images.clone(), boxes), expected) and not torch.equal(images, expected)


@pytest.mark.parametrize("name", ["MixUp", "CutMix"])
@pytest.mark.parametrize("batch", [1, 7, 8])
def test_mixing_equals_torchvision_with_the_batch_reversed(name, batch, monkeypatch):
    """torchvision pairs an image with the one before it; here it is given the reversed batch as these."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, batch, 3, *SHAPE, generator=generator)
    labels = torch.randint(10, (5, batch), generator=generator)
    alphas = {"mixup_alpha": float(name == "MixUp"), "cutmix_alpha": float(name == "CutMix")}
    boxes, weights = draw_mixes(5, SHAPE, **alphas, seed=0, epoch=1)
    found = mix(images, boxes, weights[:, 0])
    monkeypatch.setattr(torch.Tensor, "roll", lambda tensor, *_: tensor.flip(0))
    for model in range(5):
        transform = getattr(v2, name)(num_classes=10)
        own, (top, left, bottom, right) = weights[model, 1].item(), boxes[model].tolist()
        params = {"lam": own} if name == "MixUp" else {"box": (left, top, right, bottom), "lam_adjusted": own}
        with monkeypatch.context() as patched:
            patched.setattr(transform, "make_params", lambda _, params=params: params)
            expected, targets = transform(images[model], labels[model])
        torch.testing.assert_close(found[model], expected)
        if name == "CutMix":
            assert torch.equal(found[model], expected)
        one_hot = torch.nn.functional.one_hot(labels[model], 10).float()
        torch.testing.assert_close(targets, own * one_hot + (1 - own) * one_hot.flip(0))
