"""Settings of a sweep: made from config.yaml, and validated where they are made."""

from dataclasses import FrozenInstanceError

import pytest
from small_sweeps import small_settings

from afmp.benchmark.candidates import candidates_of
from afmp.benchmark.settings import reduced_batch_sizes, sweep_from_config
from afmp.errors import AfmpError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": (32, 100)}, "resolutions: 100 px"),
        ({"resolutions": (32, 32)}, "resolutions: [32, 32]"),
        ({"models": ("vit",)}, "models is 'vit': allowed are afmp_small, deit_tiny, afmp_refined_small"),
        ({"semantics": ("poem",)}, "semantics is 'poem': allowed are paper, notebook"),
        ({"precision": ("fp8",)}, "precision is 'fp8'"),
        ({"execution": ("eager", "eager")}, "execution: ['eager', 'eager'] found"),
        ({"mode": ()}, "mode: [] found"),
        ({"batch_size": (1, 2, 3)}, "batch_size: 3 values found for 2 resolutions"),
        ({"batch_size": (0, 1)}, "batch_size is 0"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"warmup": 0}, "warmup is 0"),
        ({"repeats": 0}, "repeats is 0"),
        ({"seconds": 0.0}, "seconds is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
    ],
)
def test_an_error_names_the_key_and_the_value(changes, message):
    with pytest.raises(AfmpError) as raised:
        small_settings(**changes)
    assert message in str(raised.value)


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        small_settings().warmup = 2


def test_batches_above_224_px_have_no_more_patches():
    resolutions = [64, 96, 224, 448, 896, 1792, 3584]
    assert reduced_batch_sizes(resolutions, 64) == (64, 64, 64, 16, 4, 1, 1)


def test_settings_from_the_config_file_measure_the_given_sizes():
    section = {
        "resolutions": [64, 448],
        "batch_size": 8,
        "num_classes": 7,
        "precision": ["fp32", "tf32"],
        "mode": ["inference"],
        "execution": ["eager", "graph"],
        "attention": ["plain"],
        "models": ["deit_tiny", "afmp_refined_small"],
        "device": "cuda",
        "warmup": 2,
        "repeats": 3,
        "seconds": 4.0,
    }
    settings = sweep_from_config(section, resolutions=[448], semantics=["paper", "notebook"])
    assert settings.sizes == [(448, 2)] and settings.semantics == ("paper", "notebook")
    for key in ("models", "precision", "mode", "execution", "attention"):
        assert getattr(settings, key) == tuple(section[key])
    for key in ("num_classes", "device", "warmup", "repeats", "seconds"):
        assert getattr(settings, key) == section[key]
    assert settings.skip_impossible


def test_candidates_are_all_combinations_that_a_model_has():
    settings = small_settings(semantics=("paper", "notebook"), attention=("fused", "plain"))
    keys = ("model", "semantics", "attention", "execution")
    assert [tuple(candidate[key] for key in keys) for candidate in candidates_of(settings)] == [
        ("afmp_small", "paper", None, "eager"),
        ("afmp_small", "notebook", None, "eager"),
        ("deit_tiny", None, "fused", "eager"),
        ("deit_tiny", None, "plain", "eager"),
        ("afmp_refined_small", None, None, "eager"),
    ]
