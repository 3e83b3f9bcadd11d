"""The optimisation step: one batch of every seed in a stack, on data that is in the memory of the training device.

No value returns to the host until the epoch ends. On CUDA the step is captured once as a CUDA graph and replayed,
because for images of CIFAR's size kernel launches take far longer than the kernels themselves.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from afmp.data.augmentation import EpochPlan, crop_and_normalise, crop_positions
from afmp.data.dataset import PreparedDataset
from afmp.data.mixing import erase, mix
from afmp.data.split import Split
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import autocast
from afmp.model.stack import Model, changing_tensors, hand_out_gradients
from afmp.study.run_config import TrainingConfig
from afmp.training.averaging import average_shares, update_average
from afmp.training.optimizer import learning_rates, optimizer_tensors, set_learning_rate
from afmp.training.plan import mixes_images


class EpochSums(NamedTuple):
    """Measurements of one seed over one epoch. Loss and regulariser are means over the steps."""

    loss: float
    accuracy: float  # percent
    sparsity_loss: float
    num_steps: int
    bad_step: int | None  # first step (0-based) whose loss is not finite; the last step if only weights are not


class TrainingStep:
    """The training step of a stack: augmentation, forward, backward, one AdamW step per seed, and measurements.

    average: the stack of averaged weights, if the recipe averages.
    `begin` copies an epoch's plans to the device. A call trains on the next batch. `read` returns the measurements.
    """

    def __init__(
        self,
        stack: Model,
        models: list[Model],
        optimizers: list[torch.optim.Optimizer],
        *,
        data: PreparedDataset,
        split: Split,
        training: TrainingConfig,
        average: Model | None = None,
    ):
        self.stack, self.models, self.optimizers = stack, models, optimizers
        self.data, self.split, self.training, self.average = data, split, training, average
        num_train, num_models, device = len(split.train_index), len(models), split.train_index.device
        # The last, smaller batch is trained too, as in the original notebook.
        self.batch_sizes = [len(batch) for batch in torch.arange(num_train).split(training.batch_size)]
        self.plan = torch.zeros(3, num_models, num_train, dtype=torch.int64, device=device)  # start, step, label
        num_erased = num_train if training.erasing_probability else 0
        num_mixed = len(self.batch_sizes) if mixes_images(training) else 0
        self.erased = torch.zeros(num_models, num_erased, 4, dtype=torch.int64, device=device)
        self.mix_boxes = torch.zeros(num_models, num_mixed, 4, dtype=torch.int64, device=device)
        self.mix_weights = torch.zeros(num_models, num_mixed, 2, device=device)
        self.next_step = torch.zeros(1, dtype=torch.int64, device=device)  # counted on the device
        self.within_batch = torch.arange(self.batch_sizes[0], device=device)
        self.ones = torch.ones(num_models, device=device)
        self.rates = torch.zeros(len(self.batch_sizes), device=device)  # of each step, with schedule cosine
        self.shares = torch.zeros_like(self.rates)  # of the current weights in the average, for each step
        self.record = torch.zeros(len(self.batch_sizes), 3, num_models, device=device)  # loss, correct, regulariser

    def begin(self, plans: list[EpochPlan], *, epoch: int) -> None:
        """Start an epoch (1-based) with one plan per model."""
        split, device = self.split, self.plan.device
        plan = EpochPlan(*(torch.stack(parts).to(device) for parts in zip(*plans, strict=True)))
        index = split.train_index[plan.order]
        start, step = crop_positions(split.train_images, index, plan.offsets, plan.flips)
        torch.stack([start, step, split.train_labels[index]], out=self.plan)
        for table, drawn in (
            (self.erased, plan.erased),
            (self.mix_boxes, plan.mix_boxes),
            (self.mix_weights, plan.mix_weights),
        ):
            table.copy_(drawn)
        if self.training.schedule == "cosine":
            rates = learning_rates(self.training, epoch=epoch, num_steps=len(self.batch_sizes))
            self.rates.copy_(torch.tensor(rates))
        if self.average is not None:
            shares = average_shares(self.training, epoch=epoch, num_steps=len(self.batch_sizes))
            self.shares.copy_(torch.tensor(shares))
        self.next_step.zero_()

    def __call__(self, batch_size: int) -> None:
        """Train every model on the next `batch_size` images of its plan."""
        training = self.training
        images, labels, mixed_labels, own = self._next_batch(batch_size)
        self.stack.zero_grad(set_to_none=True)
        with autocast(training.precision, images.device):
            logits, sparsity_loss = self.stack.forward_train(images)  # (M, B, classes), (M,)
        task_loss = self._cross_entropy(logits, labels)
        if mixed_labels is not None:
            task_loss = own * task_loss + (1 - own) * self._cross_entropy(logits, mixed_labels)
        loss = task_loss.mean(dim=1) + sparsity_loss
        # The sum over models. A model's weights act on its own loss only, so its gradient is the same as alone.
        loss.backward(self.ones)
        hand_out_gradients(self.stack, self.models)
        if training.clip_norm:
            for model in self.models:
                clip_grad_norm_(model.parameters(), training.clip_norm)
        if training.schedule == "cosine":
            set_learning_rate(self.optimizers, self.rates.index_select(0, self.next_step)[0])
        for optimizer in self.optimizers:
            optimizer.step()
        if self.average is not None:
            share = self.shares.index_select(0, self.next_step)[0]
            update_average(_real_tensors(self.average), _real_tensors(self.stack), share)
        with torch.no_grad():
            correct = (logits.argmax(dim=-1) == labels).sum(dim=1, dtype=loss.dtype)
            metrics = torch.stack([loss, correct, sparsity_loss.to(loss.dtype)])
            self.record.index_copy_(0, self.next_step, metrics[None])
            self.next_step += 1

    def _next_batch(
        self, batch_size: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Return images (M, B, 3, H, W) and labels (M, B).

        If images are mixed, these are the labels of the larger share, and the other two results are those of the
        smaller share (M, B), and the larger share itself (M, 1).
        """
        data, split, training = self.data, self.split, self.training
        places = torch.add(self.within_batch[:batch_size], self.next_step, alpha=training.batch_size)
        start, step, labels = self.plan.index_select(2, places)  # (M, B) each
        images = crop_and_normalise(split.train_images, start, step, mean=data.mean, std=data.std)
        if training.erasing_probability:
            images = erase(images, self.erased.index_select(1, places))
        if not mixes_images(training):
            return images, labels, None, None
        boxes = self.mix_boxes.index_select(1, self.next_step)  # (M, 1, 4)
        outside, own = self.mix_weights.index_select(1, self.next_step).unbind(2)  # (M, 1) each
        images, others = mix(images, boxes[:, 0], outside[:, 0]), labels.flip(1)
        is_larger = own >= 0.5
        labels, others = torch.where(is_larger, labels, others), torch.where(is_larger, others, labels)
        return images, labels, others, torch.where(is_larger, own, 1 - own)

    def _cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss (M, B) of logits (M, B, classes), in float32 or wider, with the labels smoothed."""
        wide = torch.promote_types(logits.dtype, torch.float32)
        smoothing = self.training.label_smoothing
        flat, targets = logits.flatten(0, 1).to(wide), labels.flatten()
        return F.cross_entropy(flat, targets, reduction="none", label_smoothing=smoothing).view_as(labels)

    def read(self) -> list[EpochSums]:
        """Return the measurements of each model over the steps of this epoch so far. Waits for the device."""
        # The last loss was computed before the last update, which can still have made weights infinite or NaN.
        weights = [weight.detach().reshape(len(self.models), -1) for weight in _real_tensors(self.stack)]
        weights = torch.cat(weights, dim=1)
        finite, record = weights.isfinite().all(dim=1).cpu(), self.record.cpu().double()
        num_steps = int(self.next_step)
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
    """A TrainingStep as CUDA graphs, one per batch size.

    `peak_memory_bytes`: peak allocated memory in a step of the largest batch. It is measured in the eager warm-up,
    because the allocator does not count what a replay uses. The copies from which the state before the warm-up is
    restored do not count.
    """

    def __init__(self, step: TrainingStep):
        self.batch_sizes, self.begin, self.read = step.batch_sizes, step.begin, step.read
        device = step.next_step.device
        saved, stream = _snapshot(step), torch.cuda.Stream()
        self.graphs = {}
        torch.cuda.reset_peak_memory_stats(device)
        for size in sorted(set(step.batch_sizes), reverse=True):
            # Twice: the first step creates AdamW's state; the second starts with that state allocated, as all later
            # steps do.
            for _ in range(2):
                step.next_step.zero_()  # start at step 0 again: an epoch may have only one step
                run_before_capture(lambda size=size: step(size), stream)
            if not self.graphs:
                self.peak_memory_bytes = torch.cuda.max_memory_allocated(device) - _bytes_of(saved)
            self.graphs[size], _ = capture(lambda size=size: step(size), stream)
        _restore(step, saved)

    def __call__(self, batch_size: int) -> None:
        self.graphs[batch_size].replay()


def _weights(step: TrainingStep) -> list[torch.Tensor]:
    stacks = [step.stack] if step.average is None else [step.stack, step.average]
    return [tensor for stack in stacks for tensor in changing_tensors(stack)]


def _real_tensors(stack: Model) -> list[torch.Tensor]:
    """Return the tensors of a stack that training changes, but BatchNorm's whole count of batches."""
    return [tensor for tensor in changing_tensors(stack) if tensor.is_floating_point()]


def _snapshot(step: TrainingStep) -> tuple[list, list]:
    weights = [tensor.detach().clone() for tensor in _weights(step)]
    pairs = zip(step.models, step.optimizers, strict=True)
    return weights, [{name: value.clone() for name, value in optimizer_tensors(*pair).items()} for pair in pairs]


def _bytes_of(saved: tuple[list, list]) -> int:
    weights, optimizers = saved
    return sum(tensor.nbytes for tensors in (weights, *(each.values() for each in optimizers)) for tensor in tensors)


@torch.no_grad()
def _restore(step: TrainingStep, saved: tuple[list, list]) -> None:
    weights, optimizers = saved
    for tensor, before in zip(_weights(step), weights, strict=True):
        tensor.copy_(before)
    for model, optimizer, before in zip(step.models, step.optimizers, optimizers, strict=True):
        for name, tensor in optimizer_tensors(model, optimizer).items():
            # State that the warm-up created did not exist before, and AdamW starts from zeros.
            if name in before:
                tensor.copy_(before[name])
            else:
                tensor.zero_()
