"""The state of one seed's training: its model, optimizer and progress, saved to and loaded from a checkpoint."""

import copy
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from afmp.data.dataset import PreparedDataset
from afmp.model.afmp import AFMP
from afmp.model.rival import Rival
from afmp.model.sizes import build_model
from afmp.model.stack import Model
from afmp.training.checkpoint import load_checkpoint, other_checkpoints, save_checkpoint
from afmp.training.identity import checkpoint_path, seed_identity
from afmp.training.optimizer import (
    build_optimizer,
    build_schedule,
    load_optimizer_tensors,
    load_schedule,
    optimizer_tensors,
    schedule_state,
)
from afmp.training.run import Run

log = logging.getLogger("afmp")

HISTORY = ("train_loss", "train_acc", "val_acc", "sparsity_loss", "time")


@dataclass
class Progress:
    """The progress of one seed as plain JSON values; a checkpoint stores it next to the weights.

    `step` is the cost of a training step of this seed alone, if it is measured. `trained_by` has an entry {from_epoch,
    device, versions, cpu_threads} for each of these sets that trained the seed. `trained_together` (seeds in one
    stack), `trained_beside` (runs side by side) and `message_passing` (the implementation) describe the process that
    trained last.
    """

    epoch: int = 0
    history: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in HISTORY})
    best_epoch: int = 0
    best_accuracy: float = -1.0
    schedule: dict = field(default_factory=dict)
    learning_rate: float = 0.0
    diagnostics: dict = field(default_factory=dict)
    trained_by: list[dict] = field(default_factory=list)
    trained_together: list[int] = field(default_factory=list)
    trained_beside: list[str] = field(default_factory=list)
    message_passing: str = ""
    wall_time_s: float = 0.0
    peak_memory_mb: float | None = None
    step: dict | None = None
    test_accuracy: float | None = None


@dataclass
class SeedTraining:
    """One seed of a run in training: everything that its checkpoint contains, and the path of the checkpoint.

    `label` names the seed in logs and errors. `best_weights` is the state dict of the best epoch, on the device.
    `average` is a model with the averaged weights, if the recipe averages.
    """

    seed: int
    label: str
    checkpoint: Path
    identity: dict
    model: Model
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.ReduceLROnPlateau | None
    progress: Progress = field(default_factory=Progress)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    average: Model | None = None

    @property
    def evaluated(self) -> Model:
        """The model that is validated, tested, described and saved: the one with averaged weights if there is one."""
        return self.model if self.average is None else self.average

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors of this seed: its weights, their average, the best ones, and AdamW's state."""
        models = [self.model] if self.average is None else [self.model, self.average]
        tensors = [tensor for model in models for tensor in model.state_dict().values()]
        tensors += [*self.best_weights.values(), *optimizer_tensors(self.model, self.optimizer).values()]
        return sum(tensor.nbytes for tensor in tensors)

    def keep_best(self) -> None:
        """Copy the current weights to `best_weights`."""
        if not self.best_weights:
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.evaluated.state_dict().items()}
            return
        current = {name: parameter.detach() for name, parameter in self.evaluated.named_parameters()}
        if isinstance(self.evaluated, Rival):
            current = self.evaluated.state_dict()  # with BatchNorm's statistics
        # One call for all weights: on a GPU one launch per weight would lengthen an epoch. The graph stays the same, so
        # its buffers are not copied again.
        torch._foreach_copy_([self.best_weights[name] for name in current], list(current.values()))

    def save(self) -> None:
        """Write the checkpoint."""
        progress = self.progress
        progress.learning_rate = float(self.optimizer.param_groups[0]["lr"])
        progress.schedule = schedule_state(self.schedule)
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        tensors |= {f"optimizer/{name}": value for name, value in optimizer_tensors(self.model, self.optimizer).items()}
        if self.average is not None:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.state_dict().items()}
        save_checkpoint(self.checkpoint, tensors=tensors, state=vars(progress), identity=self.identity)

    def load(self) -> None:
        """Load the checkpoint if there is one. Raises AfmpError as `load_checkpoint` does."""
        saved = load_checkpoint(self.checkpoint, identity=self.identity)
        if saved is None:
            return
        tensors, state = saved
        parts: dict[str, dict] = {"model": {}, "best": {}, "optimizer": {}, "average": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        self.progress = Progress(**state)
        self.model.load_state_dict(parts["model"])
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        device = next(self.model.parameters()).device
        self.best_weights = {name: tensor.to(device) for name, tensor in parts["best"].items()}
        load_optimizer_tensors(self.model, self.optimizer, parts["optimizer"])
        load_schedule(self.schedule, self.progress.schedule, learning_rate=self.progress.learning_rate)


def start_seed(run: Run, seed: int, *, data: PreparedDataset) -> SeedTraining:
    """Build the model and optimizer of one seed, and load its checkpoint if there is one.

    Seeds PyTorch's global random state, and draws the initial weights from it.
    """
    training, device = run.config.training, data.train_images.device
    identity = seed_identity(run, seed, dataset_hash=data.hash, device_type=device.type)
    torch.manual_seed(seed)
    model = build_model(run.config, semantics=run.semantics, num_classes=data.num_classes).to(device)
    if isinstance(model, AFMP):
        model.set_replay(False)  # on a GPU, a training captures whole steps
    optimizer = build_optimizer(model, training, device)
    state = SeedTraining(
        seed,
        label=f"{run} seed {seed}",
        checkpoint=checkpoint_path(run, identity),
        identity=identity,
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, training),
        average=copy.deepcopy(model) if training.ema_decay else None,
    )
    state.load()
    if state.progress.epoch:
        log.info("%s: continues after epoch %d of %d", state.label, state.progress.epoch, training.epochs)
    else:
        for path, difference in other_checkpoints(state.checkpoint, seed=seed, identity=identity):
            message = "%s: starts from the first epoch; a checkpoint of another training is not used: %s (%s)"
            log.info(message, state.label, path, difference)
    return state
