"""Verification of studies in which results, diagnostics or weights lie: each lie is a FAIL that names its file."""

import pytest
from lies import (
    GPU,
    SPARSE,
    TOP,
    WINDOW,
    N,
    P,
    R,
    best,
    by_someone_else,
    changed,
    copied,
    covered,
    cut,
    edited,
    endless,
    final,
    folder,
    gates,
    gone,
    history_of,
    in_config,
    in_history,
    listener,
    merged,
    move_a_patch,
    nested,
    of_another_seed,
    pipe,
    replaced,
    shorter,
    sparse,
    spoil,
    starts,
    swapped,
    text,
    together,
    weights,
    weights_of,
    widen,
    without,
    zeros,
)
from verified import MADE_FROM_THEM, assert_found


def all_gates(path: str, *, layer: int, value: float):
    """Give all edges of one layer the same gate at epoch 2."""
    return changed(path, lambda c: c["epochs"]["2"]["mean_gate"].__setitem__(layer, [value] * len(c["edge_index"][0])))


# By group and name: a function that tells the lie, and a pattern of the FAIL line for each line that it causes.
LIES = {
    "a result that cannot be read": {
        "missing": (gone(R[TOP, P, 1]), f"{R[TOP, P, 1]}: no such file"),
        "no JSON": (text(R[SPARSE, P, 0], "{"), f"{R[SPARSE, P, 0]}: not a JSON file"),
        "nested a hundred thousand deep": (nested(R[SPARSE, P, 1]), f"{R[SPARSE, P, 1]}: not a JSON file"),
        "against its schema": (
            edited(R[WINDOW, P, 2], best_epoch=0),
            f"{R[WINDOW, P, 2]}: not a valid result file: best",
        ),
        "a digit changed by hand": (
            replaced(R[TOP, N, 0], r'"test_accuracy": [0-9]', '"test_accuracy": 9'),
            f"{R[TOP, N, 0]}: damaged or edited: it does not match its own checksum",
        ),
        "a pipe": (pipe(R[SPARSE, N, 1]), f"{R[SPARSE, N, 1]}: is a pipe"),
        "a folder": (folder(R[WINDOW, N, 0]), f"{R[WINDOW, N, 0]}: is a folder"),
        "a link to a device without an end": (endless(R[WINDOW, N, 1]), f"{R[WINDOW, N, 1]}: is a device"),
        "a socket": (listener(R[WINDOW, N, 2]), f"{R[WINDOW, N, 2]}: is a socket"),
        "2 GB of nothing": (sparse(R[TOP, N, 2]), f"{R[TOP, N, 2]}: refused unread: it has 2,000,000,000 bytes"),
    },
    "a result of something else": {
        "seed": (edited(R[TOP, P, 1], seed=7), rf"{R[TOP, P, 1]}: seed is 7, its path says 1"),
        "run": (edited(R[TOP, P, 2], run="other"), f"{R[TOP, P, 2]}: run is 'other', its path says 'top_down'"),
        "semantics": (
            edited(R[SPARSE, P, 0], semantics=N),
            f"{R[SPARSE, P, 0]}: semantics is 'notebook', its path says 'paper'; .*validation_set is 'train_holdout'",
        ),
        "configuration": (
            in_config(R[SPARSE, N, 0], "training", learning_rate=0.5),
            f"{R[SPARSE, N, 0]}: config/training/learning_rate is 0.5, the study says 0.001",
        ),
        "a key that the study lacks": (
            in_config(R[WINDOW, P, 0], "model", num_heads=3),
            f"{R[WINDOW, P, 0]}: config/model/num_heads is 3, the study says None",
        ),
        "name in the original notebook": (
            edited(R[WINDOW, N, 0], model_type="x"),
            "model_type is 'x', its run is 'sparse_0.4'",
        ),
    },
    "a history that cannot be": {
        "best accuracy": (
            edited(R[TOP, P, 0], best_val_accuracy=99.0),
            f"{R[TOP, P, 0]}: best_val_accuracy is 99.0, its history",
        ),
        "another best epoch": (
            in_history(R[TOP, P, 1], "val_acc", 1, 100.0),
            f"{R[TOP, P, 1]}: .*best_epoch is 3, its history says 1",
        ),
        "an epoch that is missing": (
            shorter(R[TOP, P, 2], 2),
            f"{R[TOP, P, 2]}: training_history/train_loss has 2 epochs, the study says 3",
        ),
        "training accuracy of 1000": (
            in_history(R[SPARSE, P, 0], "train_acc", 2, 1000.0),
            "training_history/train_acc is 1000.0 in epoch 2",
        ),
        "a time below 0": (in_history(R[SPARSE, P, 1], "time", 1, -1.0), "training_history/time is -1.0 in epoch 1"),
        "a time of 0": (in_history(R[SPARSE, P, 2], "time", 3, 0.0), "training_history/time is 0.0 in epoch 3"),
        "a loss below 0": (in_history(R[WINDOW, P, 0], "train_loss", 3, -0.5), "train_loss is -0.5 in epoch 3"),
        "a regulariser above lambda": (
            in_history(R[WINDOW, P, 1], "sparsity_loss", 1, 0.5),
            "sparsity_loss is 0.5 in epoch 1, possible is 0 to",
        ),
        "a regulariser above the loss": (
            in_history(R[WINDOW, P, 2], "train_loss", 2, 1e-9),
            "sparsity_loss is .* in epoch 2, more than the whole",
        ),
        "less wall time than its epochs": (
            edited(R[TOP, N, 0], wall_time_s=0.1),
            f"{R[TOP, N, 0]}: wall_time_s is 0.1, less than",
        ),
    },
    "an accuracy that no number of images gives": {
        "test": (
            edited(R[TOP, P, 0], test_accuracy=12.3456),
            f"{R[TOP, P, 0]}: test_accuracy is 12.3456, which no number of 3",
        ),
        "validation": (
            in_history(R[SPARSE, P, 0], "val_acc", 1, 12.3456),
            f"{R[SPARSE, P, 0]}: val_acc is 12.3456, which no number of 1",
        ),
        "training": (
            in_history(R[WINDOW, P, 0], "train_acc", 1, 12.3456),
            f"{R[WINDOW, P, 0]}: train_acc is 12.345.*, which no number of 1",
        ),
        "another on the same images": (
            edited(R[TOP, N, 0], test_accuracy=0.0),
            f"{R[TOP, N, 0]}: test_accuracy is 0.0 and best_val_accuracy",
        ),
    },
    "a device that its own record contradicts": {
        "device": (edited(R[TOP, P, 0], device=GPU), f"{R[TOP, P, 0]}: device is .*H100.*, trained_by says"),
        "versions": (merged(R[TOP, P, 1], "versions", torch="9.9"), f"{R[TOP, P, 1]}: versions is .*, trained_by says"),
        "first epoch 2": (starts(R[TOP, P, 2], 2), rf"{R[TOP, P, 2]}: trained_by begins at the epochs \[2\]"),
        "an epoch after the last": (
            starts(R[SPARSE, P, 0], 1, 9),
            rf"{R[SPARSE, P, 0]}: trained_by begins at the epochs \[1, 9\]",
        ),
        "a GPU without CUDA": (
            by_someone_else(R[SPARSE, P, 1], device=GPU),
            f"{R[SPARSE, P, 1]}: trained_by names a CUDA device.*peak_memory_mb is None",
        ),
        "memory of a GPU on a CPU": (
            edited(R[SPARSE, P, 2], peak_memory_mb=5.0),
            f"{R[SPARSE, P, 2]}: peak_memory_mb is 5.0 on a device of type 'cpu'",
        ),
        "a step that nobody asked for": (
            edited(
                R[WINDOW, P, 1], step={"milliseconds": {"median": 1, "q25": 1, "q75": 1, "n": 3}, "memory_mb": None}
            ),
            f"{R[WINDOW, P, 1]}: step is there, but measure_step is False",
        ),
        "Triton on a CPU": (
            edited(R[WINDOW, P, 0], message_passing="triton"),
            f"{R[WINDOW, P, 0]}: message_passing is 'triton'",
        ),
        "a stack without itself": (
            edited(R[WINDOW, P, 1], trained_together=[8]),
            rf"{R[WINDOW, P, 1]}: trained_together is \[8\]",
        ),
        "beside itself": (
            edited(R[WINDOW, P, 2], trained_beside=[WINDOW]),
            f"{R[WINDOW, P, 2]}: trained_beside names 'sparse_0.4'",
        ),
        "a time that is none": (
            edited(R[TOP, N, 0], finished_at="yesterday"),
            f"{R[TOP, N, 0]}: finished_at is 'yesterday'",
        ),
    },
    "another dataset or model": {
        "hash": (
            merged(R[TOP, P, 0], "dataset", hash="a" * 64),
            f"one dataset hash in 18 results: {R[TOP, P, 0]}: dataset/hash is a{{12}}",
        ),
        "test images": (
            merged(R[TOP, P, 1], "dataset", num_test=350),
            f"{R[TOP, P, 1]}: num_test is 350, the prepared dataset says",
        ),
        "a million million classes": (
            merged(R[SPARSE, P, 0], "dataset", num_classes=10**12),
            f"{R[SPARSE, P, 0]}: num_classes is 1000000000000",
        ),
        "name": (
            merged(R[SPARSE, P, 1], "dataset", name="letters"),
            f"{R[SPARSE, P, 1]}: name is 'letters', the prepared dataset says 'digits'",
        ),
        "parameters": (
            edited(R[WINDOW, P, 0], num_parameters=5),
            f"{R[WINDOW, P, 0]}: num_parameters is 5, the model of its configuration has",
        ),
        "scaffold": (
            edited(R[WINDOW, P, 1], scaffold_hash="b" * 64),
            f"{R[WINDOW, P, 1]}: scaffold_hash is 'bbbb",
            f"{best(WINDOW, P, 1)}: scaffold_hash is '.*', its result says 'bbbb",
        ),
    },
    "work of another seed": {
        "its losses": (
            history_of(R[TOP, P, 1], R[TOP, P, 0], "train_loss"),
            f"{R[TOP, P, 1]}: has the training losses of {R[TOP, P, 0]}",
        ),
        "its whole history": (
            history_of(R[SPARSE, N, 2], R[SPARSE, N, 1], "train_loss", "train_acc", "time"),
            f"{R[SPARSE, N, 2]}: has the training losses of {R[SPARSE, N, 1]}",
        ),
        "the times of another run": (
            history_of(R[WINDOW, N, 0], R[TOP, N, 0], "time"),
            f"{R[WINDOW, N, 0]}: has the times of {R[TOP, N, 0]}",
        ),
        "its gates": (
            covered(gates(SPARSE, P, 1), of_another_seed(gates(SPARSE, P, 1), gates(SPARSE, P, 0), 1)),
            f"{gates(SPARSE, P, 1)}: has the gates of seed 0",
        ),
        "its weights": (
            covered(best(TOP, N, 1), weights_of(best(TOP, N, 1), best(TOP, N, 0))),
            f"{best(TOP, N, 1)}: has the weights of seed 0",
        ),
        "two devices in one stack": (
            together,
            f"{R[WINDOW, P, 1]}: device is .*another.*, seed 0, trained together with it, says",
        ),
    },
    "weights": {
        "set to 0": (
            weights(best(TOP, P, 0), zeros),
            f"{best(TOP, P, 0)}: not the weights that its result was written with",
        ),
        "missing": (gone(best(TOP, P, 1)), f"{best(TOP, P, 1)}: no such file"),
        "cut": (cut(best(TOP, P, 2), 3000), f"{best(TOP, P, 2)}: .*damaged, or no safetensors file"),
        "not finite": (
            covered(best(SPARSE, P, 0), weights(best(SPARSE, P, 0), spoil)),
            f"{best(SPARSE, P, 0)}: embed.weight contains NaN or infinite",
        ),
        "of another shape": (
            covered(best(SPARSE, P, 1), weights(best(SPARSE, P, 1), widen)),
            f"{best(SPARSE, P, 1)}: of another architecture: embed.weight",
        ),
        "of another scaffold": (
            covered(best(SPARSE, P, 2), weights(best(SPARSE, P, 2), move_a_patch)),
            f"{best(SPARSE, P, 2)}: scaffold_hash is",
        ),
        "of another seed": (
            covered(best(WINDOW, P, 0), copied(best(WINDOW, P, 1), best(WINDOW, P, 0))),
            f"{best(WINDOW, P, 0)}: seed is 1, it should be 0",
        ),
        "without metadata": (
            covered(best(WINDOW, P, 1), weights(best(WINDOW, P, 1), metadata={})),
            f"{best(WINDOW, P, 1)}: run is None, it should be",
        ),
        "weights with the classes of another dataset": (
            covered(
                final(TOP, N, 1), weights(final(TOP, N, 1), metadata=lambda about: about | {"class_names": ["cat"]})
            ),
            f"{final(TOP, N, 1)}: class_names is",
        ),
        "weights with another key of the model": (
            covered(
                final(TOP, N, 2),
                weights(
                    final(TOP, N, 2), metadata=lambda about: about | {"model": about["model"] | {"routing": "none"}}
                ),
            ),
            f"{final(TOP, N, 2)}: model is",
        ),
        "weights with another batch size": (
            covered(
                final(WINDOW, N, 1), weights(final(WINDOW, N, 1), metadata=lambda about: about | {"batch_size": 3})
            ),
            f"{final(WINDOW, N, 1)}: batch_size is 3, it should be",
        ),
        "metadata that is a list": (
            covered(best(WINDOW, P, 2), weights(best(WINDOW, P, 2), metadata={"about": "[1]"})),
            f"{best(WINDOW, P, 2)}: ",
        ),
        "metadata nested deep": (
            covered(best(TOP, N, 0), weights(best(TOP, N, 0), metadata={"about": "[" * 10**5 + "]" * 10**5})),
            f"{best(TOP, N, 0)}: ",
        ),
        "a pipe": (pipe(best(TOP, N, 1)), f"{best(TOP, N, 1)}: "),
        "2 GB of nothing": (sparse(best(TOP, N, 2)), f"{best(TOP, N, 2)}: refused unread"),
        "a link to a device without an end": (endless(final(SPARSE, N, 0)), f"{final(SPARSE, N, 0)}: "),
        "no word of them in the result": (
            without(R[SPARSE, N, 1], "files"),
            f"{R[SPARSE, N, 1]}: lacks the sha256 of its weights",
        ),
        "best and final swapped": (
            swapped(best(WINDOW, N, 0), final(WINDOW, N, 0)),
            f"{best(WINDOW, N, 0)}: not the weights that its result",
        ),
    },
    "diagnostics": {
        "edited": (
            changed(gates(TOP, P, 0), lambda c: c["epochs"]["3"]["mean_gate"][0].__setitem__(0, 0.5)),
            f"{gates(TOP, P, 0)}: not the diagnostics that its result was written with",
        ),
        "of another seed": (
            of_another_seed(gates(TOP, P, 1), gates(TOP, P, 2), 1),
            f"{gates(TOP, P, 1)}: not the diagnostics that its result",
        ),
        "another share pruned": (
            covered(
                gates(SPARSE, P, 0),
                changed(gates(SPARSE, P, 0), lambda c: c["epochs"]["3"]["pruned_percent"].__setitem__(0, 50.0)),
            ),
            f"{gates(SPARSE, P, 0)}: epoch 3, layer 0: pruned_percent is 50.0",
        ),
        "more gates open than edges kept": (
            covered(gates(SPARSE, P, 1), all_gates(gates(SPARSE, P, 1), layer=1, value=0.5)),
            f"{gates(SPARSE, P, 1)}: epoch 2, layer 1: pruned_percent is",
        ),
        "pruned by another count": (
            covered(gates(SPARSE, N, 0), all_gates(gates(SPARSE, N, 0), layer=0, value=0.9)),
            f"{gates(SPARSE, N, 0)}: epoch 2, layer 0: pruned_percent is",
        ),
        "of other epochs": (
            covered(gates(WINDOW, P, 0), changed(gates(WINDOW, P, 0), lambda c: c["epochs"].pop("2"))),
            rf"{gates(WINDOW, P, 0)}: has epochs \[3\], the study says \[2, 3\]",
        ),
        "of another image": (
            covered(gates(WINDOW, P, 1), edited(gates(WINDOW, P, 1), image_index=3)),
            f"{gates(WINDOW, P, 1)}: image_index is 3, the model of its configuration says 0",
        ),
        "a patch elsewhere": (
            covered(gates(WINDOW, P, 2), changed(gates(WINDOW, P, 2), lambda c: c["positions"][0].__setitem__(0, 9.0))),
            f"{gates(WINDOW, P, 2)}: positions is",
        ),
        "an edge that is none": (
            covered(gates(TOP, N, 0), changed(gates(TOP, N, 0), lambda c: c["edge_index"][0].__setitem__(0, 14))),
            f"{gates(TOP, N, 0)}: edge_index is",
        ),
        "a layer too few": (
            covered(gates(TOP, N, 1), changed(gates(TOP, N, 1), lambda c: c["epochs"]["2"]["mean_gate"].pop())),
            f"{gates(TOP, N, 1)}: epoch 2 has not one gate for each",
        ),
        "missing": (gone(gates(WINDOW, N, 0)), f"{gates(WINDOW, N, 0)}: no such file"),
        "a pipe": (pipe(gates(WINDOW, N, 1)), f"{gates(WINDOW, N, 1)}: is a pipe"),
    },
}


@pytest.mark.promise("verify-fails-by-name")
@pytest.mark.parametrize("group", LIES)
def test_each_lie_about_training_is_a_fail_that_names_its_file(study_to_break, group):
    assert_found(study_to_break, LIES[group], besides=MADE_FROM_THEM)
