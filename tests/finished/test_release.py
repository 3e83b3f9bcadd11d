"""Releases: each loads by its own metadata, and its card says what it is. What may not be released is refused."""

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import PROJECT
from lies import edit, read, result
from PIL import Image
from rival_runs import DATASET, prepare_small_digits, rival_config
from safetensors.torch import load_file
from training_runs import small_config

from afmp import cli
from afmp.analysis.statistics import mean_and_interval
from afmp.analysis.wording import with_interval
from afmp.data.augmentation import normalise
from afmp.data.dataset import load_dataset
from afmp.errors import AfmpError
from afmp.finished import release
from afmp.finished.model_card import CIFAR100_CLASSES, model_card
from afmp.model.weights import build_from_weights, read_about
from afmp.training.run import Run
from afmp.training.run_training import train_run

FOUND = sorted((PROJECT / "afmp/releases").glob("*.safetensors"))
MADE = [("tiny", "float32"), ("tiny", "float16"), ("convmixer", "float32"), ("convmixer", "float16")]
DATA = "prepare_data/digits.safetensors"
SEED_0, SEED_1 = (result("tiny", "refined", seed) for seed in (0, 1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The results folder of an AFMP with two random seeds and of a rival with one."""
    results = tmp_path_factory.mktemp("trained") / "results"
    (results / "prepare_data").mkdir(parents=True)
    digits_file = prepare_small_digits(results / "prepare_data")
    tiny = replace(small_config(d_model=8, patch_size=4, batch_size=256, learning_rate=0.02), dataset=DATASET)
    rival = rival_config("convmixer", epochs=1)
    for run, semantics, config, seeds in (("tiny", "refined", tiny, (0, 1)), ("convmixer", "timm", rival, (0,))):
        folders = {seed: results / f"train/{semantics}/{run}/seed_{seed}" for seed in seeds}
        train_run(Run(run, semantics, config, folders, results / "checkpoints"), dataset_path=digits_file)
    return results


@pytest.fixture
def results(trained, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "results"))


def released(results: Path, folder: Path, *, run="tiny", name="small", semantics=None) -> release.Release:
    return release.write_release(results, run, name, semantics=semantics, folder=folder)


def store_as(stored_type: str, results: Path, run: str, monkeypatch) -> None:
    """Let a release of this run be stored in one type: as float16, if float32 is too large by a byte."""
    if stored_type == "float16":
        as_float32 = released(results, results / f"{run} as float32", run=run)
        monkeypatch.setattr(release, "MAX_BYTES", as_float32.num_bytes - 1)


@pytest.fixture(params=[*FOUND, *MADE], ids=lambda made: made.stem if isinstance(made, Path) else " ".join(made))
def weights(request, trained, tmp_path, monkeypatch) -> Path:
    """The weights of each release of the project, and of some that are made here."""
    if isinstance(request.param, Path):
        return request.param
    run, stored_type = request.param
    store_as(stored_type, trained, run, monkeypatch)
    assert released(trained, tmp_path, run=run).stored_type == stored_type
    return tmp_path / "small.safetensors"


def test_a_release_is_small_and_loads_as_its_card_says(weights, tmp_path, monkeypatch):
    card, about = weights.with_suffix(".md").read_text(encoding="utf-8"), read_about(weights)
    assert weights.stat().st_size <= 4_000_000
    assert f"`{hashlib.sha256(weights.read_bytes()).hexdigest()}`" in card
    assert about["release"] == weights.stem and f"stored as {about['stored_type']}" in card
    monkeypatch.chdir(weights.parent)
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {"images": torch.rand(2, 3, about["image_size"], about["image_size"])}
    exec(compile(code, "card", "exec"), names)
    assert names["logits"].shape == (2, len(about["class_names"])) and names["logits"].isfinite().all()
    assert all(parameter.dtype == torch.float32 for parameter in names["model"].parameters())
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    (command,) = re.findall(r"`afmp (predict .*) one\.png`", card)
    assert cli.main([*command.split(), str(tmp_path / "one.png")]) == 0
    cite = card[card.index("## How to cite") :]
    assert "The AFMP developers (2026). AFMP" in cite and "Rahman" in cite and f"`{weights.stem}`" in cite


@pytest.mark.parametrize(("run", "stored_type"), MADE)
def test_the_card_has_the_accuracy_of_exactly_this_file(trained, tmp_path, monkeypatch, run, stored_type):
    store_as(stored_type, trained, run, monkeypatch)
    made = released(trained, tmp_path, run=run)
    path, data = tmp_path / "small.safetensors", load_dataset(trained / DATA)
    images = normalise(data.test_images, mean=data.mean, std=data.std)
    model = build_from_weights(path)
    logits = model(images[None])[0] if run == "convmixer" else model(images)
    count, number = (logits.argmax(dim=1) == data.test_labels).sum().item(), len(data.test_labels)
    card = path.with_suffix(".md").read_text()
    assert f"| {100 * count / number:.2f} % ({count} of {number} images)" in card
    values = sorted(each["test_accuracy"] for each in made.seeds)
    n, of_run = len(values), with_interval(mean_and_interval(values))
    assert f"n = {n} random seed{'s' * (n > 1)} | {of_run} |" in card and f"{values[0]:.2f}" in of_run
    assert "Student t interval" not in card  # of two seeds
    assert f"| {made.chosen['best_epoch']} of {made.chosen['config']['training']['epochs']}, " in card


@pytest.mark.parametrize("run", ["tiny", "convmixer"])
def test_only_parameters_are_rounded_to_float16(trained, tmp_path, monkeypatch, run):
    store_as("float16", trained, run, monkeypatch)
    made = released(trained, tmp_path, run=run)
    semantics = made.chosen["semantics"]
    best = load_file(trained / f"train/{semantics}/{run}/seed_{made.chosen['seed']}/best.safetensors")
    stored, model = load_file(tmp_path / "small.safetensors"), build_from_weights(tmp_path / "small.safetensors")
    parameters = dict(model.named_parameters())
    assert stored.keys() == best.keys() == model.state_dict().keys() and stored.keys() - parameters.keys()
    for name, tensor in model.state_dict().items():
        expected = best[name].half().float() if name in parameters else best[name]
        assert tensor.dtype == expected.dtype and torch.equal(tensor, expected)
        assert stored[name].dtype == (torch.float16 if name in parameters else best[name].dtype)


def test_the_metadata_of_training_are_kept(trained, tmp_path):
    made = released(trained, tmp_path)
    best = read_about(trained / f"train/refined/tiny/seed_{made.chosen['seed']}/best.safetensors")
    assert made.about == best | {"release": "small", "stored_type": "float32"}


@pytest.mark.parametrize("chosen", [0, 1])
def test_the_seed_is_chosen_by_validation_and_not_by_test_accuracy(results, tmp_path, chosen):
    for seed, path in enumerate((SEED_0, SEED_1)):
        edit(results / path, best_val_accuracy=60.0 if seed == chosen else 50.0)
    assert released(results, tmp_path).about["seed"] == chosen
    # The other one would be better on the test set; its weights are not looked at.
    edit(results / (SEED_0, SEED_1)[1 - chosen], test_accuracy=99.0)
    assert released(results, tmp_path).about["seed"] == chosen


def to_both(**changes):
    return lambda results: [edit(results / path, **changes) for path in (SEED_0, SEED_1)]


def changed_weights(results: Path) -> None:
    for seed in (0, 1):
        with (results / f"train/refined/tiny/seed_{seed}/best.safetensors").open("ab") as file:
            file.write(b" ")


def gone_seed(results: Path) -> None:
    to_both(trained_together=[0, 1])(results)
    shutil.rmtree((results / SEED_1).parent)


def another_configuration(results: Path) -> None:
    config = read(results / SEED_1)["config"]
    edit(results / SEED_1, config=config | {"training": config["training"] | {"epochs": 4}})


REFUSED = {
    "chosen on the test set": (to_both(validation_set="test"), {}, "validation_set is 'test': the best epoch was"),
    "another accuracy": (to_both(test_accuracy=90.0), {}, r"small: as float32 it answers \d+ of 119 test images right"),
    "a changed file": (changed_weights, {}, r"best\.safetensors: not the weights that its result was written with"),
    "no dataset": (lambda results: (results / DATA).unlink(), {}, r"digits\.safetensors: no such file"),
    "another dataset": (
        to_both(dataset={"name": "digits", "hash": "0" * 64}
                | dict.fromkeys(("num_classes", "num_train", "num_val", "num_test"), 10)),
        {}, r"digits\.safetensors: its hash is \w{12}, but the run was trained on 000000000000",
    ),
    "no result": (lambda results: (results / SEED_1).unlink(), {}, "seed_1/results_tiny.json: missing: the run is unf"),
    "no seed": (gone_seed, {}, r"tiny\.json: missing, although it trai"),
    "mixed": (another_configuration, {}, "seed_1/.*: not of the same training as the other seeds: config is "),
    "another run": (lambda results: None, {"run": "poem"}, "'poem' is no run in .*; found there: .*tiny"),
    "another semantics": (lambda results: None, {"semantics": "paper"}, "'paper', but run 'tiny' was trained as refi"),
    "no semantics": (
        lambda results: shutil.copytree(results / "train/refined", results / "train/paper"),
        {}, "--semantics: missing, but run 'tiny' was trained as paper and refined",
    ),
    "the readme": (lambda results: None, {"name": "README"}, "NAME: found 'README'; allowed"),
    "a path": (lambda results: None, {"name": "../small"}, r"NAME: found '\.\./small'; allowed"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_not_be_released_is_refused_in_one_sentence_and_nothing_is_written(results, tmp_path, case):
    change, options, says = REFUSED[case]
    change(results)
    with pytest.raises(AfmpError, match=says) as refused:
        released(results, tmp_path / "out", **options)
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "out").glob("*")) and not list(tmp_path.glob("*.*"))


def test_a_model_that_is_too_large_as_float16_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "MAX_BYTES", 1000)
    with pytest.raises(AfmpError, match="bytes as float16; a release has at most 1,000; release a smaller model"):
        released(trained, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_release_is_repeated_but_not_replaced_by_another(results, tmp_path):
    folder = tmp_path / "out"
    first = released(results, folder)
    files = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == 2
    assert released(results, folder) == first
    edit(results / (SEED_0, SEED_1)[1 - first.chosen["seed"]], best_val_accuracy=99.0)
    with pytest.raises(AfmpError, match=r"small\.safetensors: another release has this name; choose another"):
        released(results, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == files


def test_the_command_writes_both_files_and_says_what_it_wrote(trained, tmp_path, capsys):
    assert cli.main(["release", str(trained), "tiny", "small", "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.md", "small.safetensors"]
    assert re.fullmatch(
        r"seed \d: test accuracy [\d.]+ % as float32, files .*/small\.safetensors and \.md\n", *outs(capsys)
    )


def outs(capsys) -> list[str]:
    return [capsys.readouterr().out]


def test_a_card_describes_cifar100_only_if_the_images_are_those(trained, tmp_path):
    made = released(trained, tmp_path)
    names = CIFAR100_CLASSES.split()
    assert len(set(names)) == 100

    def data_of(source: str, class_names: list[str]) -> str:
        config = made.chosen["config"] | {"dataset": made.chosen["config"]["dataset"] | {"source": source}}
        about = made.about | {"class_names": class_names}
        changed = replace(made, chosen=made.chosen | {"config": config}, about=about)
        return model_card(changed, citation="")

    for source, class_names in (("cifar100", names), ("folder", names)):
        card = data_of(source, class_names)
        assert "Krizhevsky" in card and "2009" in card and "https://www.cs.toronto.edu/~kriz/cifar.html" in card
        assert "state no licence" in card and "meant for research" in card
    for source, class_names in (("folder", names[1:]), ("digits", list("0123456789"))):
        assert "Krizhevsky" not in data_of(source, class_names)
