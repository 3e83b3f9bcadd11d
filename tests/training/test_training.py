"""The training of one run: what it writes, that a killed run resumes with the same bits, and what it refuses."""

import json
import shutil
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from training_runs import (
    STRONG_RECIPE,
    assert_same_tensors,
    fork_training,
    read_checkpoint,
    small_config,
    train,
    without_times,
)

import afmp
from afmp.data.augmentation import epoch_plan, normalise
from afmp.data.dataset import load_dataset
from afmp.data.split import split_dataset
from afmp.errors import AfmpError
from afmp.machine.device import resolve_device
from afmp.model.sizes import build_model
from afmp.model.stack import stack_models
from afmp.model.weights import load_weights, read_about
from afmp.records import read_diagnostics
from afmp.study.run_config import RunConfig
from afmp.training.checkpoint import load_checkpoint
from afmp.training.evaluation import count_correct
from afmp.training.identity import identity_key
from afmp.training.optimizer import build_optimizer
from afmp.training.step import TrainingStep


@pytest.fixture(scope="module")
def config() -> RunConfig:
    return small_config()


@pytest.fixture(scope="module")
def trained(config, digits_file, tmp_path_factory):
    """Both semantics, trained once without interruption: {semantics: (folder, result)}."""
    folders = {semantics: tmp_path_factory.mktemp(semantics) for semantics in ("paper", "notebook")}
    return {
        semantics: (folder, *train(config, folder, digits_file, semantics=semantics))
        for semantics, folder in folders.items()
    }


@pytest.fixture
def trained_copy(trained, tmp_path):
    """A copy of the training under `paper`, for a test that continues it: (folder, result)."""
    folder, result = trained["paper"]
    return shutil.copytree(folder, tmp_path / "copy"), result


def test_the_result_records_what_was_trained(trained, config, digits_file):
    _, result = trained["paper"]
    data = load_dataset(digits_file)
    assert result["model_type"] == result["run"] == "tiny"
    assert result["config"] == config.to_dict()
    assert result["dataset"]["hash"] == data.hash and result["dataset"]["name"] == "digits"
    assert result["dataset"]["num_train"] + result["dataset"]["num_val"] == len(data.train_labels)
    assert result["peak_memory_mb"] is None  # no GPU, so not 0
    assert result["device"]["type"] == "cpu"
    assert result["versions"]["torch"] == torch.__version__
    assert result["trained_together"] == [0] and result["message_passing"] == "pytorch"
    assert set(result["training_history"]) == {"train_loss", "train_acc", "val_acc", "sparsity_loss", "time"}
    assert {len(values) for values in result["training_history"].values()} == {config.training.epochs}
    model = build_model(config, semantics="paper", num_classes=10)
    assert result["num_parameters"] == sum(p.numel() for p in model.parameters())


def test_training_lowers_the_loss(trained):
    for _, result in trained.values():
        history = result["training_history"]
        assert history["train_loss"][-1] < history["train_loss"][0]
        assert history["train_acc"][-1] > 15  # ten classes: chance is 10


def test_best_epoch_is_the_first_best_and_its_weights_give_the_test_accuracy(trained, config, digits_file):
    folder, result = trained["paper"]
    val_acc = result["training_history"]["val_acc"]
    assert result["best_val_accuracy"] == max(val_acc)
    assert result["best_epoch"] == val_acc.index(max(val_acc)) + 1
    data = load_dataset(digits_file)
    model = build_model(config, semantics="paper", num_classes=10)
    model.load_state_dict(load_file(folder / "seed_0" / "best.safetensors"))
    correct = count_correct(
        stack_models([model]), data.test_images, data.test_labels, data=data, training=config.training
    )
    assert result["test_accuracy"] == pytest.approx(100 * correct.item() / len(data.test_labels), abs=1e-9)


def test_paper_validates_on_held_out_training_images(trained, config, digits_file):
    data = load_dataset(digits_file)
    split = split_dataset(data, validate_on_test=False, fraction=config.training.validation_fraction, padding=4)
    assert trained["paper"][1]["validation_set"] == split.validation_set == "train_holdout"
    held_out = set(range(len(data.train_labels))) - set(split.train_index.tolist())
    assert len(held_out) == len(split.val_labels)
    assert torch.equal(split.val_images, data.train_images[sorted(held_out)])
    assert set(split.val_labels.tolist()) == set(range(10))


def test_notebook_validates_on_the_test_set_and_records_it(trained, digits_file):
    _, result = trained["notebook"]
    data = load_dataset(digits_file)
    assert result["validation_set"] == "test"
    assert result["dataset"]["num_val"] == len(data.test_labels)
    assert result["dataset"]["num_train"] == len(data.train_labels)
    assert result["test_accuracy"] == result["best_val_accuracy"]


def test_the_last_smaller_batch_is_an_optimizer_step_too(trained, config):
    folder, result = trained["paper"]
    (checkpoint,) = (folder / "checkpoints").glob("*.safetensors")
    steps = load_file(checkpoint)["optimizer/embed.weight/step"].item()
    num_train, batch_size = result["dataset"]["num_train"], config.training.batch_size
    assert num_train % batch_size  # otherwise this test proves nothing
    assert steps == config.training.epochs * -(-num_train // batch_size)


def test_the_schedule_is_reduce_on_plateau_of_the_validation_accuracy(config, digits_file, tmp_path):
    # A learning rate too small to learn with: the accuracy stays, so the rate must fall.
    training = replace(config.training, learning_rate=1e-9, plateau_patience=0, epochs=4)
    (result,) = train(replace(config, training=training), tmp_path, digits_file)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-9)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=0, factor=0.2)
    for accuracy in result["training_history"]["val_acc"]:
        schedule.step(accuracy)
    (checkpoint,) = (tmp_path / "checkpoints").glob("*.safetensors")
    _, state = read_checkpoint(checkpoint)
    assert state["schedule"]["num_bad_epochs"] == schedule.num_bad_epochs
    assert state["learning_rate"] == pytest.approx(optimizer.param_groups[0]["lr"])


def test_diagnostics_have_the_configured_epochs_and_the_share_of_pruned_edges(trained, config):
    for semantics, (folder, _) in trained.items():
        record = read_diagnostics(folder / "seed_0" / "diagnostics.json")
        assert sorted(record["epochs"]) == ["2", "3"]  # every second, and the last
        num_edges = len(record["edge_index"][0])
        for epoch in record["epochs"].values():
            assert len(epoch["mean_gate"]) == config.model.num_layers
            assert all(len(gates) == num_edges for gates in epoch["mean_gate"])
        if semantics == "paper":
            assert num_edges == 66  # both directions
            assert record["epochs"]["3"]["pruned_percent"] == pytest.approx([100 * (1 - 4 / 66)] * 2)
        else:
            assert num_edges == 33  # one direction
            gates = torch.tensor(record["epochs"]["3"]["mean_gate"])
            below = 100 * (gates < 0.5).float().mean(dim=1)
            assert record["epochs"]["3"]["pruned_percent"] == pytest.approx(below.tolist(), abs=1e-3)


@pytest.mark.promise("same-bits-on-cpu")
def test_same_seed_gives_the_same_bits_and_another_seed_does_not(trained, config, digits_file, tmp_path):
    folder, result = trained["paper"]
    again, other = train(config, tmp_path, digits_file, seeds=(0, 1))
    assert without_times(again) == without_times(result)
    assert other["training_history"]["train_loss"] != result["training_history"]["train_loss"]
    for name in ("best", "final"):
        assert_same_tensors(folder / f"seed_0/{name}.safetensors", tmp_path / f"seed_0/{name}.safetensors")


@pytest.mark.promise("new-seed-trains-alone")
def test_a_new_seed_does_not_train_finished_ones_again(trained_copy, config, digits_file, caplog):
    folder, first = trained_copy
    (folder / "seed_0" / "results_tiny.json").unlink()  # Snakemake deletes a job's outputs before it runs it again
    caplog.set_level("INFO", logger="afmp")
    again, _ = train(config, folder, digits_file, seeds=(0, 1))
    assert again["training_history"] == first["training_history"]
    assert not [line for line in caplog.messages if "seed 0: epoch" in line]
    assert len([line for line in caplog.messages if "seed 1: epoch" in line]) == config.training.epochs


@pytest.mark.promise("killed-training-resumes")
@pytest.mark.parametrize(
    ("semantics", "recipe"),
    [("paper", {}), pytest.param("notebook", {}, marks=pytest.mark.long), ("refined", STRONG_RECIPE)],
    ids=["paper", "notebook", "strong recipe"],
)
def test_a_killed_run_resumes_to_the_same_bits(config, digits_file, tmp_path, semantics, recipe):
    config = replace(config, training=replace(config.training, epochs=8, **recipe))
    (uninterrupted,) = train(config, tmp_path / "uninterrupted", digits_file, semantics=semantics)
    folder = tmp_path / semantics
    epochs_seen = []
    for after in (1, 4):  # kill -9 some time after that many epochs were finished
        process = fork_training(config, folder, digits_file, semantics=semantics)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.exitcode is None:
            files = list((folder / "checkpoints").glob("seed_*.safetensors"))
            if files and read_checkpoint(files[0])[1]["epoch"] >= after:
                break
            time.sleep(0.01)
        process.kill()
        process.join()
        (checkpoint,) = (folder / "checkpoints").glob("seed_*.safetensors")
        epochs_seen.append(read_checkpoint(checkpoint)[1]["epoch"])
        assert not (folder / "seed_0" / "results_tiny.json").exists()
    assert 1 <= epochs_seen[0] <= epochs_seen[1] < 8
    (resumed,) = train(config, folder, digits_file, semantics=semantics)
    assert without_times(resumed) == without_times(uninterrupted)
    for name in ("best", "final"):
        assert_same_tensors(*(root / f"seed_0/{name}.safetensors" for root in (folder, tmp_path / "uninterrupted")))
    # The optimizer too: everything from which a longer run would resume.
    checkpoints = "checkpoints/seed_*.safetensors"
    assert_same_tensors(*(next(root.glob(checkpoints)) for root in (folder, tmp_path / "uninterrupted")))


@pytest.mark.promise("other-checkpoint")
def test_checkpoint_of_another_run_is_refused(trained, config):
    folder, _ = trained["paper"]
    (checkpoint,) = (folder / "checkpoints").glob("*.safetensors")
    identity, _ = read_checkpoint(checkpoint)
    for change, part in (
        (lambda i: i["run"]["model"].update(d_model=32), "run/model/d_model is 16 there, 32 here"),
        (lambda i: i.update(dataset="0" * 64), "dataset is"),
        (lambda i: i.update(code="0" * 64), "code is"),
        (lambda i: i.update(seed=7), "seed is 0 there, 7 here"),
    ):
        other = json.loads(json.dumps(identity))
        change(other)
        with pytest.raises(AfmpError, match=part):
            load_checkpoint(checkpoint, identity=other)
        assert identity_key(other) != identity_key(identity)  # so a job does not even open that file


def test_damaged_checkpoint_is_named(trained, tmp_path):
    (checkpoint,) = (trained["paper"][0] / "checkpoints").glob("*.safetensors")
    identity, _ = read_checkpoint(checkpoint)
    damaged = tmp_path / checkpoint.name
    damaged.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(AfmpError, match=f"{damaged.name}: damaged"):
        load_checkpoint(damaged, identity=identity)


@pytest.mark.promise("divergence")
def test_divergence_stops_with_epoch_and_step_and_leaves_no_result(config, digits_file, tmp_path):
    diverging = replace(config, training=replace(config.training, learning_rate=1e30))
    with pytest.raises(AfmpError, match=r"diverged: the loss or a weight was not finite in epoch 1, step \d+ of \d+"):
        train(diverging, tmp_path, digits_file)
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("best.safetensors"))


@pytest.mark.promise("divergence")
def test_weights_that_the_last_step_made_infinite_are_a_divergence(config, digits_file):
    data = load_dataset(digits_file)
    model = build_model(config, semantics="paper", num_classes=10)
    stack = stack_models([model])
    optimizer = build_optimizer(model, config.training, torch.device("cpu"))
    split = split_dataset(data, validate_on_test=False, fraction=0.1, padding=4)
    step = TrainingStep(stack, [model], [optimizer], data=data, split=split, training=config.training)
    step.begin([epoch_plan(len(split.train_index), seed=0, epoch=1)], epoch=1)
    step(4)
    assert step.read()[0].bad_step is None
    with torch.no_grad():
        model.embed.weight[0, 0] = float("nan")
    assert step.read()[0].bad_step == 0


@pytest.mark.promise("resumed-elsewhere")
def test_device_and_versions_are_kept_when_a_finished_seed_is_written_again(
    trained_copy, config, digits_file, monkeypatch
):
    folder, first = trained_copy
    other = first["versions"] | {"torch": "99.0"}
    monkeypatch.setattr("afmp.training.run_training.versions", lambda: other)
    (again,) = train(config, folder, digits_file)
    assert again["versions"] == first["versions"] and again["trained_by"] == first["trained_by"]
    shorter = replace(config, training=replace(config.training, epochs=1))
    (new,) = train(shorter, folder, digits_file)
    assert new["versions"] == other and [entry["from_epoch"] for entry in new["trained_by"]] == [1]


@pytest.mark.promise("other-checkpoint")
def test_a_checkpoint_of_another_configuration_is_logged_and_not_used(trained_copy, config, digits_file, caplog):
    caplog.set_level("INFO", logger="afmp")
    train(replace(config, training=replace(config.training, weight_decay=0.5)), trained_copy[0], digits_file)
    (line,) = [line for line in caplog.messages if "not used" in line]
    assert "run/training/weight_decay is 0.0001 there, 0.5 here" in line


def test_a_missing_device_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(AfmpError, match="'cuda' is not on this machine; allowed here: auto, "):
        resolve_device("cuda")


def test_a_file_of_weights_says_all_that_its_predictions_need(config, digits_file, tmp_path):
    (result,) = train(config, tmp_path, digits_file, semantics="refined")
    path = tmp_path / "seed_0/best.safetensors"
    about, data = read_about(path), load_dataset(digits_file)
    described = RunConfig.from_dict(config.to_dict() | {"model": about["model"]})
    described = replace(described, dataset=replace(described.dataset, image_size=about["image_size"]))
    model = build_model(described, semantics=about["semantics"], num_classes=len(about["class_names"]))
    load_weights(model, path)
    images = normalise(data.test_images, mean=torch.tensor(about["mean"]), std=torch.tensor(about["std"]))
    answers = model.eval()(images).argmax(dim=1)
    assert 100 * (answers == data.test_labels).double().mean().item() == pytest.approx(result["test_accuracy"])
    assert about["class_names"] == list(data.class_names) and about["dataset"]["hash"] == data.hash


def test_weights_of_the_notebook_say_the_batch_size_of_their_training(config, digits_file, tmp_path):
    config = replace(config, training=replace(config.training, epochs=1))
    train(config, tmp_path, digits_file, semantics="notebook")
    model = afmp.load(tmp_path / "seed_0/best.safetensors")
    assert model.semantics == "notebook" and model.batch_size == config.training.batch_size
