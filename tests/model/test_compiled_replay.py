"""Passes that are replayed under torch.compile. On a CPU, a stand-in takes the place of CUDA graphs and of Inductor."""

import gc

import pytest
import torch
from replayed_models import DEVICE, images_of, replayed_model

from afmp.model import captured_pass

pytestmark = pytest.mark.long
BACKEND = "inductor" if DEVICE == "cuda" else "aot_eager"


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch):
    torch.compiler.reset()
    compiled = torch.compile(captured_pass._compute, backend=BACKEND, dynamic=False)
    monkeypatch.setattr(captured_pass, "_compiled", lambda: compiled)


class Pair:
    """A compiled model that replays, and a model that is neither."""

    def __init__(self, kind: str = "paper", **changes) -> None:
        self.plain = replayed_model(kind, **changes)
        self.plain.set_replay(False)
        self.replayed = replayed_model(kind, **changes)
        self.compiled = torch.compile(self.replayed, backend=BACKEND, fullgraph=True)

    def check(self, steps, *, replays: int, tolerance: float = 1e-4) -> None:
        """Call `steps` with each model; it returns tensors that must be the same. So must all gradients."""
        before = self.replayed._replay.num_replays
        found, expected = steps(self.compiled), steps(self.plain)
        found += [each.grad for each in self.replayed.parameters()]
        expected += [each.grad for each in self.plain.parameters()]
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert ours.dtype == theirs.dtype
                torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        assert self.replayed._replay.num_replays - before == replays


def loss_of(results) -> torch.Tensor:
    return results[0].float().square().mean() + results[1]


@pytest.mark.parametrize("kind", ["paper", "refined"])
def test_training_and_inference_under_autocast(kind):
    pair = Pair(kind)

    def steps(model):
        found = []
        for number in range(3):
            with torch.autocast(DEVICE, torch.bfloat16):
                results = model(images_of(number), return_sparsity_loss=True)
            loss_of(results).backward()
            found += results
        with torch.no_grad(), torch.autocast(DEVICE, torch.bfloat16):
            found += [model(images_of(number)) for number in range(2)]
        return found

    pair.check(steps, replays=5, tolerance=3e-2)


def test_every_order_of_passes(monkeypatch):
    pair = Pair()

    def trained(model, number):
        return loss_of(model(images_of(number), return_sparsity_loss=True))

    def accumulated(model):
        for number in range(3):
            trained(model, number).backward()
        return []

    def two_before_their_backward_passes(model):
        first, second = trained(model, 0), trained(model, 1)
        (first * second).backward()
        return [first, second]

    def dropped(model):
        for number in range(3):
            trained(model, number)
        return []

    def with_inference_between(model):
        loss = trained(model, 0)
        with torch.no_grad():
            answer = model(images_of(1))
        loss.backward()
        return [answer]

    def changed_in_place(model):
        loss = trained(model, 0)
        with torch.no_grad():
            (pair.replayed if model is pair.compiled else model).layers[1].pcu.W_self.weight.mul_(1.5)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
        model.zero_grad()  # some were computed before the error
        return []

    pair.check(accumulated, replays=3)
    pair.check(two_before_their_backward_passes, replays=1)
    pair.check(dropped, replays=3)
    gc.collect()
    pair.check(with_inference_between, replays=1)
    pair.check(changed_in_place, replays=1)
    pair.check(accumulated, replays=3)

    # As within a graph made by hand: the pass is computed, and its backward pass does not compute it again.
    monkeypatch.setattr(type(pair.replayed._replay.graphs), "can_replay", staticmethod(lambda images: False))
    monkeypatch.setattr("afmp.model.compiled_replay.compute_again", None)
    pair.check(accumulated, replays=0)
    assert not pair.replayed._replay.waiting

    pair.replayed.set_replay(False)
    pair.check(accumulated, replays=0)


def test_frozen_weights_and_gradients_of_images():
    pair = Pair()
    for model in (pair.replayed, pair.plain):
        model.layers[0].requires_grad_(False)

    def steps(model):
        images = images_of(0).requires_grad_()
        for _ in range(2):
            model(images)[:, 0].sum().backward()
        return [images.grad]

    pair.check(steps, replays=2)
