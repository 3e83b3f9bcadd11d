"""Explanations: gates, directions and prediction errors as the definition reads, and the answer without messages."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from saved_weights import save
from training_runs import small_config

import afmp
from afmp.data.augmentation import normalise
from afmp.model.explanation import column_name, explain_file
from afmp.model.refined import RANK
from afmp.model.sizes import build_model

MODELS = {
    "paper": ("paper", small_config(use_top_down=True)),
    "window": ("paper", small_config(scaffold="window", window_size=3, is_sparse=False)),
    "notebook": ("notebook", small_config(use_top_down=True)),
    "refined": ("refined", small_config(is_sparse=False)),
    "per node": ("refined", small_config(edges_per_node=2, use_top_down=True)),
    "refined window": ("refined", small_config(scaffold="window", sparsity=0.9)),
}


@pytest.fixture
def photo(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def loaded(folder: Path, name: str):
    """A model whose gates differ: of weights as training starts with them, all are about one half."""
    semantics, config = MODELS[name]
    model = afmp.load(save(folder / "best.safetensors", semantics, config=config), batch_size=64)
    with torch.no_grad():
        for layer in model.layers:
            layer.router.W_gate.weight.mul_(30)
    return model


def shown_to(model, path: Path) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None]
    return normalise(pixels, mean=torch.tensor(model.about.mean), std=torch.tensor(model.about.std))


def errors_of_definition(model, number: int, state: torch.Tensor) -> list[float]:
    router = model.layers[number].router
    if model.semantics != "refined":
        return [torch.dist(state[j], router.W_pred(state[i])).item() for i, j in model.directed_edge_index.T]
    maps = [router.W_in(F.layer_norm(h, h.shape)).split(RANK) for h in state]
    return [F.mse_loss(maps[j][5], maps[i][2]).sqrt().item() for i, j in model.directed_edge_index.T]


def answer_without_messages(model, images: torch.Tensor) -> torch.Tensor:
    """Each patch by itself, from the equations."""
    if model.semantics == "refined":
        silent = build_model(small_config(**changes_of(model)), semantics="refined", num_classes=3)
        silent.load_state_dict(model.state_dict())
        return silent(images)
    states = [model._embed(images)]
    for layer in model.layers:
        states.append(F.gelu(layer.pcu.W_self(states[-1])))
    refined = states[-1]
    if model.use_top_down and model.semantics == "paper":  # the notebook's pass changes no output
        for step, state in zip(reversed(model.top_down_aggregators), reversed(states[1:-1]), strict=True):
            refined = state + step.W_t(refined)
    return model.readout["2"](refined.mean(dim=1))


def changes_of(model) -> dict:
    return {"messages": False, "is_sparse": model.is_sparse, "use_top_down": model.use_top_down}


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_gates_errors_and_answers_are_those_of_the_definition(tmp_path, photo, name):
    model = loaded(tmp_path, name)
    explained, images = explain_file(model, photo), shown_to(model, photo)
    internals = model.forward_internals(images)
    assert explained.probabilities == pytest.approx(internals.logits[0].softmax(dim=0).numpy(), abs=1e-6)
    without = answer_without_messages(model, images)[0].softmax(dim=0).numpy()
    assert explained.without_messages == pytest.approx(without, abs=1e-6)
    assert np.abs(explained.probabilities - explained.without_messages).max() > 1e-3
    assert (explained.edge_index == model.directed_edge_index.numpy()).all()
    for number, (layer, gates) in enumerate(zip(explained.layers, internals.gates, strict=True)):
        np.testing.assert_allclose(layer.gates, gates[0].mean(dim=-1), rtol=1e-5)
        assert (layer.gates > 0).sum() == model.top_k
        if number == 0 and model.semantics != "refined":
            assert layer.errors is None  # it has no previous output to predict from
            continue
        state = internals.states[number - 1][0] if number else model._embed(images)[0]
        np.testing.assert_allclose(layer.errors, errors_of_definition(model, number, state), rtol=1e-4)


@pytest.mark.parametrize("name", ["paper", "notebook", "per node"])
def test_an_edge_is_named_from_the_patch_that_sends_to_the_patch_that_hears(tmp_path, photo, name):
    model = loaded(tmp_path, name)
    explained, images = explain_file(model, photo), shown_to(model, photo).requires_grad_()
    layer = explained.layers[0]
    kept = {tuple(pair) for pair in explained.edge_index[:, layer.gates > 0].T.tolist()}
    receiver, sender = next(pair for pair in sorted(kept) if pair[::-1] not in kept)
    (strongest,) = explained.strongest_edges(layer, 1)
    assert layer.gates[strongest] == layer.gates.max() and len(explained.strongest_edges(layer, 99)) == len(kept)
    edge = explained.edge_index.T.tolist().index([receiver, sender])
    names = [f"{'ABCD'[patch % 4]}{patch // 4 + 1}" for patch in (sender, receiver)]
    assert explained.edge_name(edge) == " → ".join(names)
    state = model.forward_internals(images).states[0][0]

    def reaches(source: int, target: int) -> bool:
        (gradient,) = torch.autograd.grad(state[target].sum(), images, retain_graph=True)
        row, column = divmod(source, 4)
        return bool(gradient[..., 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].any())

    assert reaches(sender, receiver) and not reaches(receiver, sender)


@pytest.mark.parametrize("changes", [{"use_errors": False}, {"routing": "none"}])
def test_a_model_whose_scores_have_no_errors_has_none_to_show(tmp_path, photo, changes):
    config = small_config(is_sparse=False, **changes)
    explained = explain_file(afmp.load(save(tmp_path / "best.safetensors", config=config)), photo)
    assert all(layer.errors is None and (layer.gates > 0).all() for layer in explained.layers)


def test_without_messages_nothing_changes_for_a_model_that_has_none(tmp_path, photo):
    config = small_config(is_sparse=False, messages=False)
    explained = explain_file(afmp.load(save(tmp_path / "best.safetensors", config=config)), photo)
    assert (explained.probabilities == explained.without_messages).all()
    assert not any(layer.gates.any() or explained.strongest_edges(layer, 3) for layer in explained.layers)


def test_the_error_of_a_patch_is_the_mean_over_the_edges_on_which_it_sends(tmp_path, photo):
    explained = explain_file(loaded(tmp_path, "notebook"), photo)
    layer = explained.layers[1]
    senders = explained.edge_index[1]
    for patch, error in enumerate(explained.patch_errors(layer)):
        sent = layer.errors[senders == patch]
        assert error == pytest.approx(sent.mean()) if len(sent) else np.isnan(error)
    assert np.isnan(explained.patch_errors(layer)).sum() == 1  # the first patch: it only receives


def test_columns_are_named_as_in_a_spreadsheet():
    names = {0: "A", 25: "Z", 26: "AA", 51: "AZ", 52: "BA", 701: "ZZ", 702: "AAA"}
    assert {column: column_name(column) for column in names} == names
