"""Scalars for TensorBoard, written beside a training that asks for them (`training/tensorboard`).

They are made of what a training saves anyway, its checkpoints and results. So they change no number, and a run is the
same run with and without them. PyTorch and TensorBoard load only where events are written.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, pstdev

from afmp.errors import AfmpError
from afmp.records import read_diagnostics, read_result
from afmp.study.paths import DIAGNOSTICS_NAME, result_name, seed_name
from afmp.study.run_config import RunConfig, TrainingConfig
from afmp.training.run import Run

log = logging.getLogger("afmp")

HISTORY_TAGS = {
    "train_loss": "loss/train",
    "sparsity_loss": "loss/sparsity",
    "train_acc": "accuracy/train",
    "val_acc": "accuracy/validation",
    "time": "seconds_per_epoch",
}


def check_tensorboard() -> None:
    """Raise AfmpError unless the package tensorboard is installed."""
    if find_spec("tensorboard") is None:
        raise AfmpError(
            "training/tensorboard: the package tensorboard is not installed; run `pip install --constraint "
            "constraints.txt '.[tensorboard]'` in the folder of the project, or leave the scalars out."
        )


@contextmanager
def record_training(run: Run, folder: Path | None) -> Iterator[None]:
    """Write the scalars of checkpoints saved inside this block to <folder>/seed_<seed>; without a folder, none.

    A run that trains side by side with this one has the folder of its name beside `folder`. At the end, seeds of this
    run that were finished before are written from their results. Files of an earlier process are replaced, so that each
    epoch stands there once. If nothing can be written, the log says so and training goes on.
    Raises AfmpError as `check_tensorboard` does, before training.
    """
    if folder is None:
        yield
        return
    check_tensorboard()
    from afmp.training import checkpoint

    events = _Events()
    given_up: set[Path] = set()

    def write(place: Path, state: Mapping, training: TrainingConfig) -> None:
        if place not in given_up:
            try:
                events.write(place, state, training)
            except OSError as error:
                given_up.add(place)
                log.warning(
                    "%s: scalars for TensorBoard cannot be written (%s); training goes on", place, error.strerror
                )

    def after_saving(path: Path, identity: dict, state: dict) -> None:
        own = folder if path.parent == run.checkpoint_folder else folder.with_name(path.parent.name)
        write(own / seed_name(identity["seed"]), state, RunConfig.from_dict(identity["run"]).training)

    checkpoint.AFTER_SAVING.append(after_saving)
    try:
        yield
        for seed, files in run.seed_folders.items():
            place = folder / seed_name(seed)
            if place not in events.finished | given_up:
                result = read_result(files / result_name(run.name))
                state = _final_state(result, read_diagnostics(files / DIAGNOSTICS_NAME))
                write(place, state, run.config.training)
    finally:
        checkpoint.AFTER_SAVING.remove(after_saving)
        events.close()


def write_scalars(folder: Path, result: dict, diagnostics: dict) -> None:
    """Write the scalars of a finished seed, from its result and diagnostics, in the place of those in the folder.

    Raises AfmpError as `check_tensorboard` does, and if the folder cannot be written.
    """
    check_tensorboard()
    events = _Events()
    try:
        events.write(folder, _final_state(result, diagnostics), RunConfig.from_dict(result["config"]).training)
    except OSError as error:
        raise AfmpError(f"{folder}: cannot be written ({error.strerror}); choose another folder.") from None
    finally:
        events.close()


def _final_state(result: dict, diagnostics: dict) -> dict:
    """Return what the last checkpoint said of these numbers."""
    return result | {"history": result["training_history"], "diagnostics": diagnostics["epochs"]}


class _Events:
    """Files of scalars that this process writes, a folder per seed. `finished` are the folders of finished seeds."""

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here, so that what is wrong with it is said before training

        self._new = SummaryWriter
        self._writers: dict[Path, SummaryWriter] = {}
        self._last_epochs: dict[Path, int] = {}
        self.finished: set[Path] = set()

    def write(self, folder: Path, state: Mapping, training: TrainingConfig) -> None:
        """Write what a seed has reached and what is not written yet; state: as in a checkpoint."""
        if folder in self.finished:
            return
        writer = self._writers.get(folder) or self._new_writer(folder)
        new = epoch_scalars(state, training, after=self._last_epochs.get(folder, 0))
        for epoch, scalars in new.items():
            for tag, value in scalars.items():
                writer.add_scalar(tag, value, epoch)
            self._last_epochs[folder] = epoch
        if state["test_accuracy"] is not None:
            writer.add_scalar("accuracy/test", state["test_accuracy"], state["best_epoch"])
            self.finished.add(folder)
        writer.flush()

    def close(self) -> None:
        """Close all files."""
        for writer in self._writers.values():
            with suppress(OSError):  # of a disk that was full before
                writer.close()

    def _new_writer(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        # purge_step: a TensorBoard that is open forgets what it has read of the files of before.
        self._writers[folder] = self._new(str(folder), purge_step=1)
        return self._writers[folder]


def epoch_scalars(state: Mapping, training: TrainingConfig, *, after: int = 0) -> dict[int, dict[str, float]]:
    """Return the scalars of each epoch later than `after`, by tag.

    state: as in a checkpoint: `history` by key, a value per epoch, and `diagnostics` by epoch, as `describe_gates`
    returns them.
    """
    history = state["history"]
    rates = learning_rates_of_epochs(training, history["val_acc"])
    epochs = {
        epoch: {"learning_rate": rates[epoch - 1]} | {tag: history[key][epoch - 1] for key, tag in HISTORY_TAGS.items()}
        for epoch in range(after + 1, len(rates) + 1)
    }
    for epoch, gates in state["diagnostics"].items():
        if int(epoch) <= after:
            continue
        scalars = epochs[int(epoch)]
        for layer, percent in enumerate(gates["pruned_percent"], start=1):
            scalars[f"pruned_edges_percent/layer_{layer}"] = percent
        for layer, means in enumerate(gates["mean_gate"], start=1):
            if means:  # a layer without edges has no gates
                scalars[f"gate_mean/layer_{layer}"] = fmean(means)
                scalars[f"gate_std/layer_{layer}"] = pstdev(means)
    return epochs


def learning_rates_of_epochs(training: TrainingConfig, val_acc: list[float]) -> list[float]:
    """Return the highest learning rate of each epoch so far, from the schedule and the validation accuracies in %."""
    import torch

    from afmp.training.optimizer import build_schedule, learning_rates

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=training.learning_rate)
    schedule = build_schedule(optimizer, training)
    if schedule is None:
        # With one step per epoch these are the last step of each epoch of the warm-up, and the first of each later one.
        return [learning_rates(training, epoch=n, num_steps=1)[0] for n in range(1, len(val_acc) + 1)]
    rates = []
    for accuracy in val_acc:
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step(accuracy)
    return rates
