"""`notebook` equals the original notebook's code: golden values made from it by golden/make_golden.py."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from afmp import AFMP

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import make_golden  # noqa: E402

TOLERANCE = 1e-5  # of the largest entry of a tensor


@pytest.fixture(scope="module")
def reference_weights() -> dict[str, torch.Tensor]:
    """The state dict that the reference saved, its graph included, in the order it has there."""
    with np.load(GOLDEN / "notebook_weights.npz", allow_pickle=False) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


@pytest.fixture(scope="module")
def golden_values() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "notebook_values.npz", allow_pickle=False) as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def build(*, semantics: str = "notebook", lambda_sparse: float = make_golden.LAMBDA_SPARSE, **settings) -> AFMP:
    return AFMP(semantics=semantics, lambda_sparse=lambda_sparse, **make_golden.MODEL, **settings)


def build_case(case: str, weights: dict[str, torch.Tensor]) -> tuple[AFMP, torch.Tensor, torch.Tensor]:
    num_images, batch_size, sparsity, is_sparse, use_top_down = make_golden.CASES[case]
    model = build(batch_size=batch_size, sparsity=sparsity, is_sparse=is_sparse, use_top_down=use_top_down)
    names = model.state_dict().keys()
    model.load_state_dict({name: tensor for name, tensor in weights.items() if name in names}, strict=True)
    images, labels = make_golden.images_and_labels(num_images)
    return model, torch.from_numpy(images), torch.from_numpy(labels)


def assert_equals(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    assert found.shape == expected.shape, what
    error = (found.detach().double() - expected.double()).abs().max()
    assert error <= TOLERANCE * expected.abs().max(), f"{what}: off by {error:.1e}"


@pytest.mark.parametrize("case", make_golden.CASES)
def test_outputs_equal_the_reference(case, reference_weights, golden_values):
    model, images, _ = build_case(case, reference_weights)
    internals = model.forward_internals(images)
    assert_equals(internals.logits, golden_values[f"{case}/logits"], "logits")
    assert_equals(model(images), golden_values[f"{case}/logits"], "logits of forward")
    assert_equals(internals.sparsity_loss, golden_values[f"{case}/sparsity_loss"], "sparsity loss")
    for layer, (gates, states) in enumerate(zip(internals.gates, internals.refined_states, strict=True)):
        assert_equals(gates[0], golden_values[f"{case}/gates.{layer}"], f"gates of layer {layer}")
        assert not gates[1:].any(), "an image that exchanges nothing has no gates"
        expected = golden_values[f"{case}/refined_states.{layer}"]
        assert_equals(make_golden.stored_images(states), expected, f"states of layer {layer}")


@pytest.mark.parametrize("case", make_golden.CASES)
def test_gradients_equal_the_reference(case, reference_weights, golden_values):
    model, images, labels = build_case(case, reference_weights)
    # In float64: in float32 the reference itself is off by more than the tolerance where many edges cancel.
    model = model.double()
    logits, sparsity_loss = model.forward_train(images.double())
    (torch.nn.functional.cross_entropy(logits, labels) + sparsity_loss).backward()

    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    expected = {
        name.removeprefix(f"{case}/gradient."): gradient
        for name, gradient in golden_values.items()
        if name.startswith(f"{case}/gradient.")
    }
    # The top-down weights have none, and neither has the first layer's prediction.
    assert found.keys() == expected.keys()
    assert not any(name.startswith("top_down") for name in found)
    for name, gradient in expected.items():
        assert_equals(found[name], gradient, name)


def test_one_seed_gives_the_reference_its_initial_weights(reference_weights):
    torch.manual_seed(make_golden.SEED)
    model = build()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.data, reference_weights[name], rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("semantics", ["paper", "notebook"])
def test_weights_go_to_the_reference_and_come_back(semantics, reference_weights):
    model = build(semantics=semantics)
    ours = model.state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in reference_weights.items()
    }
    assert all(ours[name].dtype == tensor.dtype for name, tensor in reference_weights.items())

    model.load_state_dict(reference_weights, strict=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, reference_weights[name]), name


def test_only_the_first_image_and_only_the_lower_index_hear(reference_weights):
    """Rules 1 and 2: seen in the gradient of every node's state with respect to the patches."""
    model = build(is_sparse=False, use_top_down=False)
    model.load_state_dict({n: t for n, t in reference_weights.items() if not n.startswith("top_down")})
    num_patches, num_layers = model.num_patches, make_golden.MODEL["num_layers"]
    hears = torch.eye(num_patches, dtype=torch.bool)
    hears[tuple(model.edge_index)] = True
    assert not hears.tril(-1).any()
    reach = torch.linalg.matrix_power(hears.double(), num_layers) > 0

    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    state = model.forward_internals(images).states[-1]
    for image, expected in enumerate((reach, torch.eye(num_patches, dtype=torch.bool))):
        for node in range(num_patches):
            (gradient,) = torch.autograd.grad(state[image, node].sum(), images, retain_graph=True)
            felt = gradient.reshape(2, 3, 4, 8, 4, 8).abs().sum(dim=(1, 3, 5)).flatten(1) > 0
            assert torch.equal(felt[image], expected[node])
            assert not felt[1 - image].any()


def test_sparsity_changes_nothing_in_the_original_experiments():
    """Rule 3: the budget exceeds one graph's edges, so every sparsity is the dense model."""
    images = torch.randn(128, 3, 32, 32)
    logits = []
    for sparsity in (0.0, 0.2, 0.3, 0.6, 0.9):
        torch.manual_seed(0)
        model = build(sparsity=sparsity)
        assert model.top_k == model.num_directed_edges == 33
        logits.append(model(images))
    assert all(torch.equal(logits[0], others) for others in logits[1:])


def test_window_scaffold_is_stored_in_both_directions():
    model = build(img_size=(8, 40), scaffold="window", window_size=2)
    expected = [[i, j] for i in range(5) for j in range(max(0, i - 2), min(5, i + 3)) if i != j]
    assert model.edge_index.t().tolist() == expected
    assert torch.equal(model.directed_edge_index, model.edge_index)
    assert torch.isfinite(model(torch.randn(3, 3, 8, 40))).all()


def test_a_single_patch_has_no_sparsity_loss():
    logits, sparsity_loss = build(img_size=8).forward_train(torch.randn(2, 3, 8, 8))
    assert torch.isfinite(logits).all()
    assert sparsity_loss == 0
