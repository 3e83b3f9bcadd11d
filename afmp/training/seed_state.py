"""What a seed has so far: its model, its way into a checkpoint and back, its best weights' score, its divergence."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch

from afmp.data.dataset import PreparedDataset
from afmp.errors import AfmpError
from afmp.model.afmp import AFMP
from afmp.model.stack import stack_models
from afmp.study.study import TrainingConfig
from afmp.training.checkpoint import load_checkpoint, save_checkpoint
from afmp.training.step import EpochSums, count_correct, load_optimizer_tensors, optimizer_tensors

HISTORY = ("train_loss", "train_acc", "val_acc", "sparsity_loss", "time")
SCHEDULE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")  # of torch's ReduceLROnPlateau


@dataclass
class Progress:
    """What a seed has so far, as plain JSON values; weights and optimiser travel beside it.

    `trained_by` lists what computed it: {from_epoch, device, versions}, a new entry where a resumed run found another
    device or other versions than the entry before. `trained_together`, `trained_beside` and
    `message_passing` are those of the last one.
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
    test_accuracy: float | None = None


@dataclass
class SeedTraining:
    """One seed of a run under way: all that its checkpoint holds, and where that lies.

    `what` names it in logs and errors. `best_weights` is the state dict of the best epoch, on the model's device.
    """

    seed: int
    what: str
    checkpoint: Path
    identity: dict
    model: AFMP
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau
    progress: Progress = field(default_factory=Progress)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep_best(self) -> None:
        """Make the weights of now the best ones."""
        if not self.best_weights:
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            return
        now = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        # One copy for all: on a GPU a launch for each weight would show in the time of an epoch. The graph stays.
        torch._foreach_copy_([self.best_weights[name] for name in now], list(now.values()))

    def save(self) -> None:
        """Write everything that the seed goes on from as one checkpoint."""
        progress = self.progress
        progress.learning_rate = float(self.optimizer.param_groups[0]["lr"])
        progress.schedule = {key: getattr(self.scheduler, key) for key in SCHEDULE}
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_weights.items()}
        tensors |= {f"optimizer/{name}": value for name, value in optimizer_tensors(self.model, self.optimizer).items()}
        save_checkpoint(self.checkpoint, tensors=tensors, state=vars(progress), identity=self.identity)

    def load(self) -> None:
        """Go back to the checkpoint; nothing where there is none. Raises AfmpError as `load_checkpoint` does."""
        saved = load_checkpoint(self.checkpoint, identity=self.identity)
        if saved is None:
            return
        tensors, state = saved
        parts: dict[str, dict] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, rest = name.split("/", 1)
            parts[part][rest] = tensor
        self.progress = Progress(**state)
        self.model.load_state_dict(parts["model"])
        self.best_weights = {name: tensor.to(self.model.embed.weight.device) for name, tensor in parts["best"].items()}
        load_optimizer_tensors(self.model, self.optimizer, parts["optimizer"])
        for key, value in self.progress.schedule.items():
            setattr(self.scheduler, key, value)
        for group in self.optimizer.param_groups:
            if torch.is_tensor(group["lr"]):
                group["lr"].fill_(self.progress.learning_rate)
            else:
                group["lr"] = self.progress.learning_rate


def next_group(trainings: list[SeedTraining], *, epochs: int, together: bool) -> tuple[list[SeedTraining], int] | None:
    """The seeds that train next, and until which epoch: those furthest behind, until they have caught up with others.

    None when every seed has had its epochs. Not `together`: one seed, until its end.
    """
    unfinished = [training for training in trainings if training.progress.epoch < epochs]
    if not unfinished:
        return None
    if not together:
        return unfinished[:1], epochs
    fewest, *others = sorted({training.progress.epoch for training in unfinished})
    return [training for training in unfinished if training.progress.epoch == fewest], others[0] if others else epochs


def score_best(group: list[SeedTraining], *, data: PreparedDataset, training: TrainingConfig) -> None:
    """Test accuracy in percent of every seed's best weights; in copies, whose weights no graph reads."""
    best = [copy.deepcopy(member.model) for member in group]
    for model, member in zip(best, group, strict=True):
        model.load_state_dict(member.best_weights)
    if best:
        correct = count_correct(stack_models(best), data.test_images, data.test_labels, data=data, training=training)
        for member, right in zip(group, correct.tolist(), strict=True):
            member.progress.test_accuracy = 100.0 * right / len(data.test_labels)


def refuse_divergence(group: list[SeedTraining], sums: list[EpochSums], epoch: int) -> None:
    """Raise AfmpError with the step of each seed whose loss or weights were not finite in this epoch."""
    diverged = [(member.what, one) for member, one in zip(group, sums, strict=True) if one.bad_step is not None]
    if diverged:
        where = "; ".join(
            f"{what} diverged: the loss or a weight was not finite in epoch {epoch}, "
            f"step {one.bad_step + 1} of {one.num_steps}"
            for what, one in diverged
        )
        raise AfmpError(f"{where}. Lower training/learning_rate, or use precision fp32; no result was written.")
