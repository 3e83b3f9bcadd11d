"""Whole models with the Triton kernels: equal to PyTorch, in one compiled graph, and with an empty batch."""

import copy

import pytest
import torch
from fused_layers import DEVICE, compiled_operators, small_model
from plain_layers import relative_error

from afmp import AFMP
from afmp.message_passing import implementation
from afmp.model import paper
from afmp.model.stack import stack_models

KINDS = {
    "few kept edges": {},
    "many kept edges": {"sparsity": 1.5},
    "dense": {"is_sparse": False},
    "without top-down": {"use_top_down": False},
    "notebook": {"semantics": "notebook", "batch_size": 2},
}


@pytest.fixture
def narrow_router(monkeypatch):
    """Make queries, keys and hidden layers 8 wide: the interpreter packs weights row by row."""
    monkeypatch.setattr(paper, "ROUTING_WIDTH", 8)


def choose_kernels(monkeypatch, *, is_fused):
    """Choose between Triton and PyTorch, in the one place that decides."""
    monkeypatch.setattr(implementation, "uses_triton", lambda state: is_fused)


def outcome(model, images):
    """Return logits, sparsity loss and the gradients of all parameters."""
    logits, sparsity_loss = model.forward_train(images)
    (logits.square().sum() + sparsity_loss.sum() * 1e3).backward()
    return [logits, sparsity_loss, *(parameter.grad for parameter in model.parameters())]


@pytest.mark.parametrize(
    ("kind", "models"),
    [*((kind, 2) for kind in KINDS), *((kind, models) for kind in ("few kept edges", "dense") for models in (1, None))],
    ids=str,
)
def test_a_model_gives_the_same_with_the_fused_kernels(kind, models, narrow_router, monkeypatch):
    outcomes = []
    for is_fused in (False, True):
        choose_kernels(monkeypatch, is_fused=is_fused)
        model = small_model(models, **KINDS[kind])
        images = torch.randn(models or 1, 2, 3, 12, 12, generator=torch.Generator().manual_seed(2)).to(DEVICE)
        outcomes.append(outcome(model, images if model.is_stack else images[0]))
    for ours, theirs in zip(*outcomes, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert relative_error(ours, theirs.double()) < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("kind", ["few kept edges", "dense"])
def test_recomputed_layers_have_the_same_gradients(kind, narrow_router, monkeypatch):
    choose_kernels(monkeypatch, is_fused=True)
    outcomes = []
    for recompute in (False, True):
        model = small_model(None, **KINDS[kind])
        model.set_grad_checkpointing(recompute)
        images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(2)).to(DEVICE)
        outcomes.append(outcome(model, images))
    assert all(ours is theirs is None or torch.equal(ours, theirs) for ours, theirs in zip(*outcomes, strict=True))


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("kind", ["few kept edges", "dense", pytest.param("notebook", marks=pytest.mark.long)])
def test_a_model_compiles_as_one_graph(kind, is_fused, narrow_router, monkeypatch):
    if not (is_fused and DEVICE == "cuda"):  # there the model itself decides, which must not break the graph
        choose_kernels(monkeypatch, is_fused=is_fused)
    model = small_model(1, **KINDS[kind])
    images = torch.randn(1, 2, 3, 12, 12, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    (logits, _), operators = compiled_operators(model.forward_train, images)
    assert logits.isfinite().all() and bool(operators) is is_fused


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("kind", ["few kept edges", "dense", "notebook"])
@pytest.mark.parametrize("models", [1, 2])
def test_an_empty_batch_has_gradients_of_zero(kind, models, is_fused, narrow_router, monkeypatch):
    choose_kernels(monkeypatch, is_fused=is_fused)
    model = small_model(models, **KINDS[kind])
    logits, _ = model.forward_train(torch.zeros(models, 0, 3, 12, 12, device=DEVICE))
    assert logits.shape == (models, 0, 5)
    logits.sum().backward()
    assert not any(parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_gpu_gives_the_results_of_a_cpu(kind):
    torch.manual_seed(0)
    kind = {"sparsity": 0.3} | kind
    cpu = stack_models([AFMP(4, 128, img_size=32, patch_size=8, **kind) for _ in range(2)])
    images = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.backends.cudnn.flags(allow_tf32=False):
        outcomes = [
            outcome(copy.deepcopy(cpu).to(device, dtype), images.to(device, dtype))
            for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32))
        ]
    for theirs, ours in zip(*outcomes, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or relative_error(ours.cpu(), theirs) < 1e-3
