"""Deep verification: weights evaluated again and seeds trained again reveal what agrees in every file and is not so."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from lies import beside, changed, covered, edit, in_history, read, result, weights, zeros
from safetensors.torch import load_file
from training_runs import prepare_few_digits, small_config

from afmp.errors import AfmpError
from afmp.finished.check import make
from afmp.finished.deep_checks import deep_checks
from afmp.finished.depth import Depth, read_depth
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.spot_checks import spot_checks
from afmp.study.run_config import DatasetConfig
from afmp.study.study import Study
from afmp.training.run import Run
from afmp.training.run_training import train_run

DATASET = DatasetConfig("digits", None, 8)
CONFIG = replace(small_config(num_layers=1, d_model=8, patch_size=4, epochs=3, batch_size=256), dataset=DATASET)
STUDY = Study(
    dataset=DATASET,
    semantics=["paper", "notebook"],
    seeds=[0, 1],
    runs={"tiny": CONFIG},
    studies=[{"name": "all", "reference": "tiny", "members": [{"run": "tiny", "label": "Tiny"}]}],
    scalability={"resolutions": [], "num_classes": 10},
)
PAPER, NOTEBOOK = result("tiny", "paper", 0), result("tiny", "notebook", 0)


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory) -> Path:
    """A third of the digits in their own size, which train in a second."""
    return prepare_few_digits(tmp_path_factory.mktemp("small"), image_size=DATASET.image_size)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits_file) -> Path:
    """The results folder of a study that was trained for real."""
    results = tmp_path_factory.mktemp("trained") / "results"
    for semantics in STUDY.semantics:
        folders = {seed: results / f"train/{semantics}/tiny/seed_{seed}" for seed in STUDY.seeds}
        train_run(Run("tiny", semantics, CONFIG, folders, results / "checkpoints"), dataset_path=digits_file)
    return results


@pytest.fixture
def results(trained, tmp_path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(trained, tmp_path / "results"))


def outcomes(results: Path, digits_file: Path, *, study=STUDY, spot=0, draw=0) -> list:
    finished = FinishedStudy(study, results, digits_file)
    depth = Depth(True, spot, draw)
    return [make(check) for check in [*deep_checks(finished), *spot_checks(finished, depth)]]


@pytest.mark.promise("deep-verification")
def test_weights_give_what_their_results_say_and_seeds_train_to_the_same_bits(trained, digits_file):
    found = outcomes(trained, digits_file, spot=2, draw=7)
    assert [outcome for outcome in found if outcome.faults or outcome.not_checked] == []
    subjects = [outcome.subject for outcome in found]
    assert subjects[:2] == ["weights of tiny [paper], evaluated again", "weights of tiny [notebook], evaluated again"]
    assert len(subjects) == 4 and all("trained again (drawn by draw=7)" in subject for subject in subjects[2:])
    again = [outcome.subject for outcome in outcomes(trained, digits_file, spot=2, draw=7)]
    assert again == subjects


def exchanged(results: Path) -> None:
    """Exchange best and final weights, each with the metadata and the hash of the other's place."""
    best, final = (load_file(results / path) for path in (BEST, FINAL))
    covered(BEST, weights(BEST, lambda tensors: tensors.update(final)))(results)
    covered(FINAL, weights(FINAL, lambda tensors: tensors.update(best)))(results)


def one_image_more(path: str):
    def tell(results: Path) -> None:
        content = read(results / path)
        number = content["dataset"]["num_test"]
        edit(results / path, test_accuracy=100.0 * (round(content["test_accuracy"] * number / 100) + 1) / number)

    return tell


def one_gate(path: str):
    return covered(path, changed(path, lambda content: content["epochs"]["3"]["mean_gate"][0].__setitem__(0, 0.123456)))


def of_other_versions(path: str):
    """Let a result say that another PyTorch trained it."""

    def tell(results: Path) -> None:
        content = read(results / path)
        there = content["versions"] | {"torch": "1.0.0"}
        edit(results / path, versions=there, trained_by=[content["trained_by"][0] | {"versions": there}])

    return tell


def both(*lies):
    return lambda results: [tell(results) for tell in lies]


BEST, FINAL, GATES = (beside(PAPER, name) for name in ("best.safetensors", "final.safetensors", "diagnostics.json"))
LOST = r"best\.safetensors: answers \d+ of \d+ test images right, test_accuracy says \d+"


@pytest.mark.promise("deep-verification")
@pytest.mark.parametrize(
    ("tell", "says"),
    [
        (covered(BEST, weights(BEST, zeros)), LOST),
        (one_image_more(PAPER), LOST),
        (in_history(PAPER, "val_acc", 3, 50.0), r"final\.safetensors: answers \d+ of \d+ validation images right"),
        (one_gate(GATES), r"diagnostics\.json: epoch 3 has not the gates that final\.safetensors gives"),
        (both(of_other_versions(PAPER), in_history(PAPER, "val_acc", 3, 50.0)), r"final\.safetensors: answers \d+"),
        (both(of_other_versions(PAPER), one_gate(GATES)), r"diagnostics\.json: epoch 3 has not the gates"),
    ],
)
def test_what_weights_do_not_give_is_named(results, digits_file, tell, says):
    tell(results)
    paper, notebook = outcomes(results, digits_file)
    assert any(re.search(says, fault) for fault in paper.faults), paper
    assert all(str(results / "train/paper/tiny/seed_0") in fault for fault in paper.faults)
    assert not notebook.faults


@pytest.mark.promise("deep-verification")
def test_best_and_final_weights_that_are_exchanged_are_named(results, digits_file):
    result = read(results / PAPER)
    exchanged(results)
    paper, _ = outcomes(results, digits_file)
    assert bool(paper.faults) == (result["best_epoch"] < 3)  # in the last epoch both are the same


@pytest.mark.promise("deep-verification")
def test_a_history_that_training_does_not_give_is_named(results, digits_file):
    """Nothing but training again can show it."""
    path, key = result("tiny", "notebook", 1), "train_loss"
    changed_loss = read(results / path)["training_history"][key][1] * 0.99
    in_history(path, key, 2, changed_loss)(results)
    found = outcomes(results, digits_file, spot=4)
    assert not any(outcome.faults for outcome in found[:2])
    assert [outcome.faults for outcome in found[2:] if outcome.faults] == [
        [f"{results / path}: training_history/{key} is not that of the training done again"]
    ]


@pytest.mark.promise("deep-verification")
def test_under_other_conditions_ranges_are_compared(results, digits_file, monkeypatch):
    monkeypatch.setattr("afmp.finished.spot_checks.FEWEST_SEEDS", 2)  # of which there are two here
    only = replace(STUDY, semantics=["paper"], seeds=[0, 1])
    of_other_versions(PAPER)(results)
    found = outcomes(results, digits_file, study=only, spot=2)
    assert not any(outcome.faults or outcome.not_checked for outcome in found)
    in_history(PAPER, "train_loss", 1, 1.0)(results)
    found = outcomes(results, digits_file, study=only, spot=2)
    assert [f"{results / PAPER}: train_loss of the first epoch is 1.0" in str(one.faults) for one in found].count(
        True
    ) == 1


def test_under_other_conditions_two_seeds_have_no_range(results, digits_file):
    only = replace(STUDY, semantics=["paper"], seeds=[0, 1])
    of_other_versions(PAPER)(results)
    found = outcomes(results, digits_file, study=only, spot=2)
    assert not any(outcome.faults for outcome in found)
    assert any("with 2 seeds the spread of its accuracy is not known" in str(one.not_checked) for one in found)


def test_what_cannot_be_evaluated_here_says_why(trained, digits_file, tmp_path):
    on_cuda = replace(CONFIG, training=replace(CONFIG.training, device="cuda:99"))
    found = outcomes(trained, digits_file, study=replace(STUDY, runs={"tiny": on_cuda}), spot=1)
    assert all("device: 'cuda:99' is not on this machine" in outcome.not_checked for outcome in found)
    found = outcomes(trained, tmp_path / "missing", spot=1)
    assert all("there is no prepared dataset" in outcome.not_checked for outcome in found)


def test_how_deep_is_read_from_text_and_from_values():
    assert read_depth({}) == Depth()
    assert read_depth({"deep": "true", "spot": "3", "draw": "5"}) == read_depth({"deep": True, "spot": 3, "draw": 5})
    assert read_depth({"deep": "True", "draw": 1}) == Depth(True, 1, 1)
    assert read_depth({"deep": "true"}).draw != read_depth({"deep": "true"}).draw


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deep": "yes"}, "config: deep: found 'yes'; allowed: true or false."),
        ({"deep": [1]}, r"config: deep: found \[1\]; allowed: true or false."),
        ({"deep": True, "spot": -1}, "config: spot: found -1; allowed: a whole number from 0"),
        ({"deep": True, "spot": True}, "config: spot: found True; allowed: a whole number"),
        ({"deep": "true", "spot": "1.5"}, "config: spot: found '1.5'; allowed: a whole number"),
        ({"deep": True, "draw": "x" * 5}, "config: draw: found 'xxxxx'; allowed: a whole number"),
        ({"spot": 2}, "config: spot: found 2, but only a deep verification trains again; add deep=true."),
    ],
)
def test_a_mistake_in_how_deep_is_one_sentence(options, says):
    with pytest.raises(AfmpError, match=says):
        read_depth(options)
