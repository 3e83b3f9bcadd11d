"""Weights from a file: what fits is loaded, nothing in it runs, and what does not fit is refused."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from afmp import afmp_refined_tiny, load
from afmp.errors import AfmpError
from afmp.model.afmp import AFMP
from afmp.model.weights import load_weights


def small(seed: int = 0, **changes) -> AFMP:
    torch.manual_seed(seed)
    return AFMP(**{"num_layers": 2, "d_model": 4, "num_classes": 3, "use_top_down": False, **changes})


def values(model: AFMP) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class Attack:
    """Unpickled, it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_and_their_graph_are_loaded(tmp_path, suffix):
    trained, path = small(1, scaffold="window", window_size=2), tmp_path / f"best{suffix}"
    if suffix == ".pth":
        torch.save(trained.state_dict(), path)
    else:
        save_file(trained.state_dict(), path, {"semantics": "paper"})
    model = small(2)
    load_weights(model, path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), trained(images)) and not torch.equal(small(2)(images), trained(images))


@pytest.mark.parametrize("semantics", ["paper", "refined"])
@pytest.mark.parametrize(("trained_at", "used_at"), [(16, 48), (48, 16)])
def test_weights_of_one_image_size_run_at_another(tmp_path, semantics, trained_at, used_at):
    options = {"semantics": semantics, "patch_size": 4}
    trained, model = small(1, img_size=trained_at, **options), small(2, img_size=used_at, **options)
    graph = {name: buffer.clone() for name, buffer in model.named_buffers()}
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    with pytest.raises(AfmpError):
        load_weights(model, tmp_path / "best.safetensors")
    load_weights(model, tmp_path / "best.safetensors", graph=False)
    assert model(torch.rand(2, 3, used_at, used_at)).isfinite().all()
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), trained.parameters(), strict=True))
    assert all(torch.equal(buffer, graph[name]) for name, buffer in model.named_buffers())


def edit(**changes):
    return lambda weights: weights | {name.replace("__", "."): change for name, change in changes.items()}


def not_a_number(weights):
    weights["embed.weight"][1, 2] = torch.nan
    return weights


MISFITS = {
    "another depth": (
        lambda weights: values(small(num_layers=3)),
        "contains layers.2.*and .* more, which the model lacks",
    ),
    "another width": (lambda weights: values(small(d_model=6)), r"embed.(weight|bias) has shape \(6"),
    "another patch": (
        lambda weights: values(small(patch_size=16)),
        "another architecture: embed.weight|static_positions",
    ),
    "no model of ours": (lambda weights: {"conv1.weight": torch.ones(2)}, "it lacks edge_attr and"),
    "not a number": (not_a_number, "embed.weight contains NaN"),
    "infinite": (
        lambda weights: weights | {"readout.2.bias": torch.full((3,), torch.inf)},
        "readout.2.bias contains NaN or inf",
    ),
    "whole numbers": (
        lambda weights: weights | {"readout.2.bias": torch.ones(3, dtype=torch.int64)},
        "contains torch.int64",
    ),
    "another image": (lambda weights: values(small(img_size=64)), "of another image size: static_positions has shape"),
    "edge to nowhere": (edit(edge_index=torch.full((2, 1), 99), edge_attr=torch.ones(1)), "edge_index with entries 99"),
}


@pytest.mark.parametrize("semantics", ["paper", "refined"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_other_classes_start_a_training_without_their_classifier(tmp_path, semantics, suffix):
    trained, path = small(1, semantics=semantics), tmp_path / f"best{suffix}"
    model = small(2, semantics=semantics, num_classes=7, img_size=64)
    (torch.save if suffix == ".pth" else save_file)(trained.state_dict(), path)
    classifier, images = copy.deepcopy(model.get_classifier()), torch.rand(2, 3, 64, 64)
    with pytest.raises(AfmpError, match=r"of other classes: readout\.2"):
        load_weights(model, path, graph=False)
    load_weights(model, path, graph=False, head=False)
    assert all(torch.equal(*pair) for pair in zip(model.layers.parameters(), trained.layers.parameters(), strict=True))
    features = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model(images), classifier(features))
    model.reset_classifier(0)  # a backbone reads the same file
    load_weights(model, path, graph=False, head=False)
    assert torch.equal(model(images), model.forward_head(model.forward_features(images)))


@pytest.mark.promise("unfitting-weights")
def test_the_name_of_a_release_is_as_good_as_its_path():
    model = afmp_refined_tiny(num_classes=5, img_size=16)
    head = model.get_classifier().weight.clone()
    load_weights(model, "afmp_refined_tiny_cifar100", head=False, graph=False)
    released = load("afmp_refined_tiny_cifar100")
    assert torch.equal(model.layers[8].router.W_gate.weight, released.layers[8].router.W_gate.weight)
    assert torch.equal(model.get_classifier().weight, head)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("misfit", MISFITS)
def test_weights_that_do_not_fit_are_refused_and_the_model_stays(tmp_path, misfit, suffix):
    change, reason = MISFITS[misfit]
    weights, path = change(values(small(1))), tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(weights, path)
    model = small(2)
    before = values(model)
    with pytest.raises(AfmpError, match=rf"weights{suffix}: .*({reason})"):
        load_weights(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.promise("unfitting-weights")
def test_weights_of_the_other_semantics_are_refused(tmp_path):
    save_file(small().state_dict(), tmp_path / "best.safetensors", {"about": json.dumps({"semantics": "notebook"})})
    with pytest.raises(AfmpError, match="trained as 'notebook', but the model is 'paper'"):
        load_weights(small(), tmp_path / "best.safetensors")


@pytest.mark.promise("unfitting-weights")
@pytest.mark.parametrize("kind", ["beside the weights", "a whole model", "an old pickle"])
def test_a_file_with_code_in_it_is_refused_and_nothing_of_it_runs(tmp_path, kind):
    trace, path = tmp_path / "ran", tmp_path / "weights.pth"
    content = {
        "beside the weights": values(small()) | {"extra": Attack(trace)},
        "a whole model": small().eval(),
        "an old pickle": Attack(trace),
    }[kind]
    torch.save(content, path, _use_new_zipfile_serialization=kind != "an old pickle")
    with pytest.raises(AfmpError, match=r"weights\.pth: refused: .*state_dict"):
        load_weights(small(), path)
    assert not trace.exists()
    if kind == "an old pickle":  # the attack is one
        torch.load(path, weights_only=False)
        assert trace.exists()


@pytest.mark.promise("unfitting-weights")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("length", [0, 7, 1000, -1])
def test_a_truncated_file_is_refused(tmp_path, suffix, length):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(AfmpError, match=f"weights{suffix}: .*damaged"):
        load_weights(small(), path)


def test_other_files_are_refused_by_name(tmp_path):
    (tmp_path / "weights.npz").write_bytes(b"x")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    for name, reason in (("absent.pth", "no such file"), ("weights.npz", "ends in"), ("list.pt", "contains list")):
        with pytest.raises(AfmpError, match=f"{name}: .*{reason}"):
            load_weights(small(), tmp_path / name)
