"""Models built from a file's own metadata, and metadata that describe no model, or one that would fill the memory."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from rival_runs import rival_config
from safetensors.torch import save_file
from training_runs import small_config

from afmp.errors import AfmpError
from afmp.model.sizes import build_model
from afmp.model.weights import build_from_weights
from afmp.study.run_config import IF_ABSENT, ModelConfig


def saved(folder: Path, *, semantics="refined", config=None, trained=None, **changes) -> Path:
    """Save a model with the metadata that training gives it, some of them changed."""
    config = config or small_config()
    trained = trained or build_model(config, semantics=semantics, num_classes=3)
    about = {"semantics": semantics, "model": config.model.to_dict(), "image_size": config.dataset.image_size}
    about |= {"class_names": ["a", "b", "c"]} | changes
    about = {key: value for key, value in about.items() if value is not None}
    path = folder / "best.safetensors"
    save_file(trained.state_dict(), path, {"about": json.dumps(about)})
    return path


SMALL = small_config()
MODELS = {
    "paper": ("paper", small_config(use_top_down=True)),
    "window": ("paper", small_config(scaffold="window", window_size=2)),
    "refined": ("refined", small_config(edges_per_node=2, use_errors=False, use_directions=False)),
    "no router": ("refined", small_config(is_sparse=False, routing="none", messages=False)),
    "one channel": ("refined", small_config(d_model=1, num_layers=8)),
    "vit": ("timm", rival_config("vit")),
    "convmixer": ("timm", rival_config("convmixer")),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_built_as_it_was_trained(tmp_path, name):
    semantics, config = MODELS[name]
    trained = build_model(config, semantics=semantics, num_classes=3).eval()
    model = build_from_weights(saved(tmp_path, semantics=semantics, config=config, trained=trained))
    images = torch.rand(2, 3, config.dataset.image_size, config.dataset.image_size)
    images = images[None] if semantics == "timm" else images
    assert not model.training and torch.equal(model(images), trained(images))


def model_keys(config=SMALL, **changes) -> dict:
    return {"model": config.model.to_dict() | changes}


def test_weights_say_every_key_and_older_ones_are_built_by_the_defaults_of_their_time(monkeypatch):
    assert rival_config("vit").model.to_dict().keys() == {"patch_size", "architecture", "arguments"}
    config = SMALL.model
    assert config.to_dict().keys() == {field.name for field in fields(ModelConfig)} - {"architecture", "arguments"}
    older = {key: value for key, value in config.to_dict().items() if key not in IF_ABSENT}
    assert older == SMALL.to_dict()["model"] and ModelConfig(**older) == config
    # A later release has other defaults.
    for field in fields(ModelConfig):
        if field.name in IF_ABSENT:
            monkeypatch.setattr(field, "default", "another")
    monkeypatch.setattr(ModelConfig.__init__, "__defaults__", (*["another"] * len(IF_ABSENT), "afmp", ()))
    assert ModelConfig(**older) != config
    assert ModelConfig.from_dict(older) == ModelConfig.from_dict(config.to_dict()) == config
    assert SMALL.to_dict()["model"] == older


RIVAL = {"semantics": "timm", "config": rival_config("convmixer")}
REFUSED = {
    "no description": ({"model": None}, "its metadata describes no model: about: 'model' is a required property"),
    "no class": ({"class_names": []}, "about/class_names: "),
    "a text as size": ({"image_size": "32"}, "about/image_size: '32' is not of type 'integer'"),
    "unknown semantics": ({"semantics": "poem"}, "about/semantics: 'poem' is not one of"),
    "a missing key": ({"model": {"d_model": 16}}, "about/model: 'num_layers' is a required property"),
    "an unknown key": (model_keys(colour=3), r"about/model: .*'colour' was unexpected"),
    "too many layers": (model_keys(num_layers=10**9), "about/model/num_layers: 1000000000 is greater than"),
    "patches that do not fit": (model_keys(patch_size=5), "its metadata describes no model: .*patch_size"),
    "other semantics": ({"semantics": "paper"} | model_keys(), "of another architecture"),
    "another file to be read": (
        RIVAL | model_keys(RIVAL["config"], arguments={"checkpoint_path": "/etc/passwd"}),
        "about/model/arguments: 'checkpoint_path' does not match",
    ),
    "52 GB": (
        model_keys(num_layers=64, d_model=8192),
        r"one of at least 6,\d{3},\d{3},\d{3} numbers, but the file has",
    ),
    "400 GB of a rival": (
        RIVAL | model_keys(RIVAL["config"], arguments={"dim": 10000, "depth": 1000, "kernel_size": 3}),
        r"one of at least \d{3},\d{3},\d{3},\d{3} numbers, but the file has",
    ),
    "the semantics of a batch": ({"semantics": "notebook"}, "'notebook', whose answers depend on the training's batch"),
}


@pytest.mark.promise("foreign-weights")
@pytest.mark.parametrize("case", REFUSED)
def test_metadata_that_describe_no_model_or_too_large_a_one_are_refused_in_one_sentence(tmp_path, case):
    changes, says = REFUSED[case]
    config = changes.get("config", SMALL)
    trained = build_model(config, semantics="timm" if config is not SMALL else "refined", num_classes=3)
    path = saved(tmp_path, trained=trained, **changes)
    with pytest.raises(AfmpError, match=rf"^{path}: .*{says}") as refused:
        build_from_weights(path)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 600


def test_weights_without_metadata_describe_no_model(tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "best.safetensors")
    with pytest.raises(AfmpError, match=r"best\.safetensors: it does not say how its model is built; load it into"):
        build_from_weights(tmp_path / "best.safetensors")
