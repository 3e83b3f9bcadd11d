"""One optimisation step of every seed in a stack, on data that lives on the training device, and the count of right
answers.

Neither returns anything to the host until an epoch ends. On CUDA both are captured once as graphs and replayed, because
at CIFAR's sizes launching their kernels one by one takes far longer than running them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from afmp.data.augmentation import EpochPlan, crop_places, cut_and_normalise, normalise
from afmp.data.dataset import PreparedDataset
from afmp.data.split import Split
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import autocast
from afmp.model.afmp import AFMP
from afmp.model.stack import hand_out_gradients, stack_size
from afmp.study.study import TrainingConfig


class EpochSums(NamedTuple):
    """One seed's epoch: loss and regulariser are means over the steps; bad_step the first (from 0) whose loss, or whose
    weights at the end, were not finite, None if all were."""

    loss: float
    accuracy: float  # percent
    sparsity_loss: float
    num_steps: int
    bad_step: int | None


def build_optimizer(model: nn.Module, training: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    """The seed's AdamW. On CUDA the learning rate is a tensor, so that a captured step sees it change."""
    options = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if device.type == "cuda":
        options |= {"lr": torch.tensor(training.learning_rate, device=device), "capturable": True}
    return torch.optim.AdamW(model.parameters(), fused=device.type in ("cuda", "cpu"), **options)


class TrainingStep:
    """Augment, forward, backward, an AdamW step a seed, metrics, for the next batch of every model in a stack.

    `begin` lays an epoch out on the device, a call trains on its next batch, `read` tells how it went.
    """

    def __init__(
        self,
        stack: AFMP,
        models: list[AFMP],
        optimizers: list[torch.optim.Optimizer],
        *,
        data: PreparedDataset,
        split: Split,
        training: TrainingConfig,
    ):
        self.stack, self.models, self.optimizers = stack, models, optimizers
        self.data, self.split, self.training = data, split, training
        num_train, num_models, device = len(split.train_index), len(models), split.train_index.device
        # The last, smaller batch is trained too, as the seed does.
        self.batch_sizes = [len(batch) for batch in torch.arange(num_train).split(training.batch_size)]
        self.plan = torch.zeros(3, num_models, num_train, dtype=torch.int64, device=device)  # start, step, label
        self.number = torch.zeros(1, dtype=torch.int64, device=device)  # of the next step, counted on the device
        self.within_batch = torch.arange(self.batch_sizes[0], device=device)
        self.ones = torch.ones(num_models, device=device)
        self.record = torch.zeros(len(self.batch_sizes), 3, num_models, device=device)  # loss, right, regulariser

    def begin(self, plans: list[EpochPlan]) -> None:
        """Start an epoch; one plan a model."""
        split, device = self.split, self.plan.device
        order, offsets, flips = (torch.stack(parts).to(device) for parts in zip(*plans, strict=True))
        index = split.train_index[order]
        start, step = crop_places(split.train_images, index, offsets, flips)
        torch.stack([start, step, split.train_labels[index]], out=self.plan)
        self.number.zero_()

    def __call__(self, batch_size: int) -> None:
        """Train on the next `batch_size` images of every model's plan."""
        data, split, training = self.data, self.split, self.training
        places = torch.add(self.within_batch[:batch_size], self.number, alpha=training.batch_size)
        start, step, labels = self.plan.index_select(2, places)  # (M, B) each
        images = cut_and_normalise(split.train_images, start, step, mean=data.mean, std=data.std)
        self.stack.zero_grad(set_to_none=True)
        with autocast(training.precision, images.device):
            logits, sparsity_loss = self.stack.forward_train(images)  # (M, B, classes), (M,)
        wide = torch.promote_types(logits.dtype, torch.float32)
        task_loss = F.cross_entropy(logits.flatten(0, 1).to(wide), labels.flatten(), reduction="none")
        loss = task_loss.view_as(labels).mean(dim=1) + sparsity_loss
        # Summed over models: a model's weights appear in its own loss only, so its gradient is the one it has alone.
        loss.backward(self.ones)
        hand_out_gradients(self.stack, self.models)
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            correct = (logits.argmax(dim=-1) == labels).sum(dim=1, dtype=loss.dtype)
            metrics = torch.stack([loss, correct, sparsity_loss.to(loss.dtype)])
            self.record.index_copy_(0, self.number, metrics[None])
            self.number += 1

    def read(self) -> list[EpochSums]:
        """How the epoch's steps so far went, a model each. Waits for the device."""
        # The last step's loss was taken before its update, which can still have spoilt the weights.
        weights = torch.cat([weight.detach().flatten(1) for weight in self.stack.parameters()], dim=1)
        finite, record = weights.isfinite().all(dim=1).cpu(), self.record.cpu().double()
        num_steps = int(self.number)
        record = record[:num_steps]
        bad = ~record[:, 0].isfinite()  # (steps, M)
        bad[-1] |= ~finite
        means = (record.sum(dim=0) / num_steps).T.tolist()
        shown = sum(self.batch_sizes[:num_steps]) / num_steps
        bad_steps = [int(column.nonzero()[0]) if column.any() else None for column in bad.T]
        return [
            EpochSums(loss, 100.0 * correct / shown, sparsity_loss, num_steps, bad_step)
            for (loss, correct, sparsity_loss), bad_step in zip(means, bad_steps, strict=True)
        ]


class GraphedStep:
    """A TrainingStep as CUDA graphs, one a batch size: an epoch is replays and nothing else.

    `peak_memory_bytes`: the most the allocator held in a step of the largest batch. It is read in the eager warm-up,
    since replays allocate nothing that the allocator counts.
    """

    def __init__(self, step: TrainingStep):
        self.batch_sizes, self.begin, self.read = step.batch_sizes, step.begin, step.read
        device = step.number.device
        saved, stream = _snapshot(step), torch.cuda.Stream()
        self.graphs = {}
        torch.cuda.reset_peak_memory_stats(device)
        for size in sorted(set(step.batch_sizes), reverse=True):
            # Twice: the first step creates AdamW's state, the second has it in memory from its start.
            for _ in range(2):
                step.number.zero_()  # a short epoch has no further batch
                run_before_capture(lambda size=size: step(size), stream)
            if not self.graphs:
                self.peak_memory_bytes = torch.cuda.max_memory_allocated(device)
            self.graphs[size], _ = capture(lambda size=size: step(size), stream)
        _restore(step, saved)

    def __call__(self, batch_size: int) -> None:
        self.graphs[batch_size].replay()


class GraphedCount:
    """A count of right answers (`count_correct` with its arguments), all its batches as one CUDA graph."""

    def __init__(self, count: Callable[[], torch.Tensor]):
        stream = torch.cuda.Stream()
        run_before_capture(count, stream)
        self.graph, self.correct = capture(count, stream)

    def __call__(self) -> torch.Tensor:
        self.graph.replay()
        return self.correct


def _snapshot(step: TrainingStep) -> tuple[list, list]:
    weights = [parameter.detach().clone() for parameter in step.stack.parameters()]
    pairs = zip(step.models, step.optimizers, strict=True)
    return weights, [{name: value.clone() for name, value in optimizer_tensors(*pair).items()} for pair in pairs]


@torch.no_grad()
def _restore(step: TrainingStep, saved: tuple[list, list]) -> None:
    weights, optimizers = saved
    for parameter, before in zip(step.stack.parameters(), weights, strict=True):
        parameter.copy_(before)
    for model, optimizer, before in zip(step.models, step.optimizers, optimizers, strict=True):
        for name, tensor in optimizer_tensors(model, optimizer).items():
            # What the warm-up created did not exist before: AdamW starts from zeros.
            if name in before:
                tensor.copy_(before[name])
            else:
                tensor.zero_()


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter name, e.g. `embed.weight/exp_avg`; the tensors themselves."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict) -> None:
    """Put saved AdamW state into an optimizer that has not stepped yet."""
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # AdamW keeps the step count on the CPU unless it is fused or capturable.
        on_device = key != "step" or optimizer.defaults["fused"] or optimizer.defaults["capturable"]
        optimizer.state[parameter][key] = value.to(parameter.device if on_device else "cpu", copy=True)


@torch.no_grad()
def count_correct(stack: AFMP, images, labels, *, data: PreparedDataset, training: TrainingConfig) -> torch.Tensor:
    """Right answers (M,) int64 of every model in a stack over uint8 images (n, 3, H, W) and labels (n,)."""
    num_models = stack_size(stack)
    correct = torch.zeros(num_models, dtype=torch.int64, device=images.device)
    size = evaluation_batch_size(stack, len(images), training)
    for batch, answers in zip(images.split(size), labels.split(size), strict=True):
        shown = normalise(batch, mean=data.mean, std=data.std).expand(num_models, *batch.shape)
        with autocast(training.precision, images.device):
            logits = stack(shown)  # (M, B, classes)
        correct += (logits.argmax(dim=-1) == answers).sum(dim=1)
    return correct


def evaluation_batch_size(stack: AFMP, num_images: int, training: TrainingConfig) -> int:
    """Images shown at once when right answers are counted.

    The training batch size, the last batch smaller: under `notebook` what an image is answered depends on its place in
    the batch, so this is part of what the seed computes. Under `paper` an image's answer is its own, and a GPU is shown
    up to four times as many, in batches as equal as they can be: without gradients they take no more memory.
    """
    if stack.semantics == "notebook" or stack.embed.weight.device.type != "cuda":
        return training.batch_size
    num_batches = -(-num_images // (4 * training.batch_size))
    return -(-num_images // num_batches)
