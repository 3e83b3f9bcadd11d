"""Contradictions in a result: where it disagrees with its study, its dataset, its own history, or what is possible.

Each one is the second half of a sentence that starts with the file's path.
"""

from collections.abc import Iterator
from datetime import datetime

from afmp.data.split import VALIDATION_SETS
from afmp.finished.differences import differences
from afmp.study.run_config import RunConfig, without_places
from afmp.study.semantics import SEMANTICS

# A sum of float32 counts over the steps of an epoch is this close to a whole number of images.
ROUNDING = 1e-4


def of_result(result: dict, config: RunConfig, expected: dict) -> Iterator[str]:
    """Yield the contradictions of a valid result with its run, and with `expected`, what its model and data say."""
    yield from _of_config(result, config)
    yield from differences(result["dataset"], expected["dataset"], "the prepared dataset says")
    yield from differences(result, expected["model"], "the model of its configuration has")
    yield from _of_history(result, config)
    yield from _of_accuracies(result)
    yield from _of_device(result, config)


def _of_config(result: dict, config: RunConfig) -> Iterator[str]:
    recorded = without_places(result["config"])
    for section, values in config.without_places().items():
        found = recorded[section]
        expected = values | dict.fromkeys(found.keys() - values.keys())  # a key that the study lacks is a contradiction
        yield from (f"config/{section}/{one}" for one in differences(found, expected, "the study says"))
    validates_on_test = SEMANTICS[result["semantics"]].validates_on_test
    expected = {"validation_set": VALIDATION_SETS[validates_on_test]}
    yield from differences(result, expected, "its semantics says")
    yield from differences(result, {"model_type": result["run"]}, "its run is")


def _of_history(result: dict, config: RunConfig) -> Iterator[str]:
    history = result["training_history"]
    for key, values in history.items():
        if len(values) != config.training.epochs:
            yield f"training_history/{key} has {len(values)} epochs, the study says {config.training.epochs}"
    best = max(history["val_acc"])
    of_history = {"best_val_accuracy": best, "best_epoch": history["val_acc"].index(best) + 1}
    yield from differences(result, of_history, "its history says")

    model = config.model
    # No gate is above 1, and a rival has none.
    largest_gate_loss = model.lambda_sparse * model.is_sparse * (1 + ROUNDING)
    bounds = {
        "train_loss": (0, float("inf")),
        "train_acc": (0, 100),
        "val_acc": (0, 100),
        "sparsity_loss": (0, largest_gate_loss),
        "time": (0, float("inf")),
    }
    for key, (low, high) in bounds.items():
        for epoch, value in enumerate(history[key], 1):
            if not low <= value <= high or (key == "time" and value == 0):
                yield f"training_history/{key} is {value} in epoch {epoch}, possible is {low} to {high:g}"
                break
    for epoch, (loss, part) in enumerate(zip(history["train_loss"], history["sparsity_loss"], strict=True), 1):
        if part > loss * (1 + ROUNDING):
            yield f"training_history/sparsity_loss is {part} in epoch {epoch}, more than the whole train_loss {loss}"
            break
    if result["wall_time_s"] < sum(history["time"]) * (1 - ROUNDING):
        yield f"wall_time_s is {result['wall_time_s']}, less than the epochs of its history, {sum(history['time'])}"


def _of_accuracies(result: dict) -> Iterator[str]:
    """Yield each accuracy that no number of correct images gives: training records 100 * correct / images."""
    history, counted = result["training_history"], result["dataset"]
    recorded = [("test_accuracy", [result["test_accuracy"]], "num_test"), ("val_acc", history["val_acc"], "num_val")]
    for key, values, images in recorded:
        number = counted[images]
        wrong = [value for value in values if 100.0 * round(value * number / 100) / number != value]
        if wrong:
            yield f"{key} is {wrong[0]!r}, which no number of {number} images gives"
    number = counted["num_train"]
    # Summed on the device over the steps of an epoch, so whole only up to rounding.
    correct = [value * number / 100 for value in history["train_acc"]]
    wrong = [images for images in correct if abs(images - round(images)) > ROUNDING]
    if wrong:
        yield f"train_acc is {100 * wrong[0] / number!r}, which no number of {number} images gives"
    if SEMANTICS[result["semantics"]].validates_on_test:
        apart = abs(result["test_accuracy"] - result["best_val_accuracy"]) * counted["num_test"] / 100
        # The same weights on the same images. A GPU may round an image otherwise outside of its graph.
        if apart > (1.5 if result["device"]["type"] == "cuda" else 0):
            yield (
                f"test_accuracy is {result['test_accuracy']} and best_val_accuracy {result['best_val_accuracy']}, "
                "but both were counted on the test set with the same weights"
            )


def _of_step(result: dict, config: RunConfig) -> Iterator[str]:
    """Yield what the measured step says against the configuration, the device, and itself."""
    step, device = result.get("step"), result["device"]["type"]
    if (step is not None) != config.training.measure_step:
        yield f"step is {'missing' if step is None else 'there'}, but measure_step is {config.training.measure_step}"
    if step is None:
        return
    if (step["memory_mb"] is None) == (device == "cuda"):
        yield f"step: memory_mb is {step['memory_mb']} on a device of type {device!r}"
    times = [step["milliseconds"][name] for name in ("q25", "median", "q75")]
    if times != sorted(times):
        yield f"step: milliseconds are not in order: q25, median, q75 are {times}"


def _of_device(result: dict, config: RunConfig) -> Iterator[str]:
    """Yield what the result says of its device and versions against its own record of who trained which epochs."""
    trained_by, device = result["trained_by"], result["device"]["type"]
    last = {key: trained_by[-1][key] for key in ("device", "versions")}
    yield from differences(result, last, "trained_by says")
    starts = [part["from_epoch"] for part in trained_by]
    if starts[0] != 1 or starts != sorted(set(starts)) or starts[-1] > config.training.epochs:
        yield f"trained_by begins at the epochs {starts}, possible are rising ones from 1 to {config.training.epochs}"
    wanted = config.training.device.partition(":")[0]
    for part in trained_by:
        found = part["device"]["type"]
        if found != device or wanted not in ("auto", found):
            yield f"trained_by names a device of type {found!r}, the study {wanted!r} and the result {device!r}"
        if (found == "cuda") and part["versions"]["cuda"] is None:
            yield "trained_by names a CUDA device, but its versions have no cuda"
    if (result["peak_memory_mb"] is None) == (device == "cuda"):
        yield f"peak_memory_mb is {result['peak_memory_mb']} on a device of type {device!r}"
    yield from _of_step(result, config)
    if result["message_passing"] == "triton" and device != "cuda":
        yield f"message_passing is 'triton', which a device of type {device!r} lacks"
    if config.model.is_rival:
        of_rivals = {"message_passing": "pytorch", "trained_together": [result["seed"]]}
        yield from differences(result, of_rivals, "a model of timm has")
    if result["seed"] not in result["trained_together"]:
        yield f"trained_together is {result['trained_together']}, which lacks its own seed {result['seed']}"
    if result["run"] in result["trained_beside"]:
        yield f"trained_beside names {result['run']!r}, the run itself"
    try:
        finished = datetime.fromisoformat(result["finished_at"])
    except ValueError:
        finished = None
    if finished is None or finished.tzinfo is None:
        yield f"finished_at is {result['finished_at']!r}, which is no time in ISO 8601 with its zone"
