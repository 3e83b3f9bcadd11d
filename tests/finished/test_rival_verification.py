"""Verification of rivals that were trained for real: it passes, and finds what no rival can have."""

import json
from pathlib import Path

import pytest
from rival_runs import ARGUMENTS, DATASET, prepare_small_digits, rival_config, train_rivals
from safetensors.torch import load_file, save_file

from afmp.finished.check import make
from afmp.finished.deep_checks import deep_checks
from afmp.finished.depth import Depth
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.spot_checks import spot_checks
from afmp.finished.training_checks import training_checks
from afmp.model.rival import build_rival
from afmp.records import read_diagnostics, read_result, write_result
from afmp.study.study import Study


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory) -> Path:
    return prepare_small_digits(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def results(tmp_path_factory, digits_file) -> Path:
    """The results folder of a study of three rivals with two seeds."""
    return train_rivals(tmp_path_factory.mktemp("trained") / "results", digits_file)


@pytest.fixture
def study() -> Study:
    members = [{"run": name, "label": name, "semantics": "timm"} for name in ARGUMENTS]
    table = {"name": "rivals", "semantics": ["refined"], "reference": "vit", "members": members}
    runs = {name: rival_config(name) for name in ARGUMENTS}
    return Study(DATASET, ["refined"], [0, 1], runs, [table], {"resolutions": [], "num_classes": 10})


def outcomes(study: Study, results: Path, digits_file: Path) -> list:
    finished = FinishedStudy(study, results, digits_file)
    checks = [*training_checks(finished), *deep_checks(finished), *spot_checks(finished, Depth(True, 2, 5))]
    return [make(check) for check in checks]


@pytest.mark.promise("rivals")
def test_rivals_pass_verification_and_train_to_the_same_bits_again(results, study, digits_file):
    found = outcomes(study, results, digits_file)
    assert [outcome for outcome in found if outcome.faults or outcome.not_checked] == []
    subjects = [outcome.subject for outcome in found]
    for name in ARGUMENTS:
        assert {f"weights of {name} [timm], 2 seeds", f"weights of {name} [timm], evaluated again"} <= set(subjects)
    assert sum("trained again" in subject for subject in subjects) == 2


def test_other_statistics_of_batch_norm_are_found_by_their_hash(results, study, digits_file):
    path = results / "train/timm/convmixer/seed_0/best.safetensors"
    before = path.read_bytes()
    weights = load_file(path)
    (name,) = [name for name in weights if name.endswith("stem.2.running_mean")]
    about = {"run": "convmixer", "semantics": "timm", "seed": 0, "epoch": json_of(results)["best_epoch"]}
    save_file(weights | {name: weights[name] + 1}, path, metadata={"about": json.dumps(about)})
    try:
        faults = [fault for outcome in outcomes(study, results, digits_file) for fault in outcome.faults]
    finally:
        path.write_bytes(before)
    assert any("not the weights that its result was written with" in fault for fault in faults)


def json_of(results: Path, name: str = "convmixer") -> dict:
    return read_result(results / f"train/timm/{name}/seed_0/results_{name}.json")


LIES = {
    "message_passing": ("triton", "message_passing is 'triton', a model of timm has 'pytorch'"),
    "trained_together": ([0, 1], "trained_together is [0, 1], a model of timm has [0]"),
    "num_parameters": (7, "num_parameters is 7, the model of its configuration has"),
    "scaffold_hash": ("0" * 64, "scaffold_hash is '000"),
    "semantics": ("paper", "semantics is 'paper', its path says 'timm'"),
    "training_history": ([1e-5, 0], "sparsity_loss is 1e-05 in epoch 1, possible is 0 to 0"),
}


@pytest.mark.parametrize("key", LIES)
def test_what_no_rival_can_have_is_found(results, study, digits_file, key):
    path = "train/timm/mixer/seed_0/results_mixer.json"
    before = (results / path).read_bytes()
    result, (lie, words) = read_result(results / path), LIES[key]
    if key == "training_history":
        lie = result[key] | {"sparsity_loss": lie}
    write_result(results / path, result | {key: lie})
    try:
        faults = FinishedStudy(study, results, digits_file).faults[path]
    finally:
        (results / path).write_bytes(before)
    assert any(words in fault for fault in faults), faults


def test_the_files_of_a_rival_say_what_it_is(results):
    for name, (architecture, arguments) in ARGUMENTS.items():
        result = json_of(results, name)
        assert result["semantics"] == "timm" and result["message_passing"] == "pytorch"
        assert result["config"]["model"]["architecture"] == architecture
        assert result["config"]["model"]["arguments"] == arguments
        model = build_rival(rival_config(name), num_classes=10)
        assert result["num_parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert set(result["training_history"]["sparsity_loss"]) == {0.0} and result["trained_together"] == [0]
        gates = read_diagnostics(results / f"train/timm/{name}/seed_0/diagnostics.json")
        assert (gates["positions"], gates["edge_index"], gates["epochs"]) == ([], [[], []], {})
        assert load_file(results / f"train/timm/{name}/seed_0/best.safetensors").keys() == model.state_dict().keys()
