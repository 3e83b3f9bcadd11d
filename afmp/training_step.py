"""One optimisation step on data that lives on the training device, and the count of right answers.

Neither returns anything to the host: sums stay on the device until an epoch ends. On CUDA a step is captured once as a
graph and replayed, because at CIFAR's sizes launching its kernels one by one takes far longer than running them.
"""

import torch
from torch import nn
from torch.nn import functional as F

from afmp.augmentation import crop_flip_normalise, normalise
from afmp.device import autocast
from afmp.study import TrainingConfig


def build_optimizer(model: nn.Module, training: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    """The seed's AdamW. On CUDA the learning rate is a tensor, so that a captured step sees it change."""
    options = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if device.type == "cuda":
        options |= {"lr": torch.tensor(training.learning_rate, device=device), "capturable": True}
    return torch.optim.AdamW(model.parameters(), fused=device.type in ("cuda", "cpu"), **options)


class TrainingStep:
    """Augment, forward, backward, AdamW, sums; called with the plan of one batch.

    `sums` holds over the epoch so far: loss, right answers, regulariser, steps; `first_bad_step` the 0-based step at
    which the loss first was not finite, or -1.
    """

    def __init__(self, model, optimizer, data, *, training: TrainingConfig):
        self.model, self.optimizer, self.data, self.training = model, optimizer, data, training
        device = data.train_images.device
        self.sums = torch.zeros(4, device=device)
        self.first_bad_step = torch.full((), -1.0, device=device)

    def reset(self) -> None:
        """Start the sums of an epoch."""
        self.sums.zero_()
        self.first_bad_step.fill_(-1)

    def read(self) -> tuple[float, float, float, float, int | None]:
        """The sums (loss, right answers, regulariser, steps) and the first step (from 0) whose loss, or whose weights
        at the end, were not finite, None if all were. Waits for the device."""
        # The last step's loss was taken before its update, which can still have spoilt the weights.
        finite = torch.stack([parameter.isfinite().all() for parameter in self.model.parameters()]).all()
        *sums, bad_step, weights_finite = torch.cat(
            [self.sums, self.first_bad_step.view(1), finite.to(self.sums).view(1)]
        ).tolist()
        if bad_step < 0 and not weights_finite:
            bad_step = sums[3] - 1
        return *sums, int(bad_step) if bad_step >= 0 else None

    def __call__(self, index, offsets, flips) -> None:
        """Train on the images `index` (B,), cropped at `offsets` (B, 2), mirrored where `flips` (B,)."""
        data, training = self.data, self.training
        images = crop_flip_normalise(
            data.train_images[index],
            offsets,
            flips,
            mean=data.mean,
            std=data.std,
            padding=training.crop_padding,
        )
        labels = data.train_labels[index]
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(training.precision, images.device):
            logits, sparsity_loss = self.model.forward_train(images)
        loss = F.cross_entropy(logits.float(), labels) + sparsity_loss
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            is_first_bad = ~torch.isfinite(loss) & (self.first_bad_step < 0)
            self.first_bad_step.copy_(torch.where(is_first_bad, self.sums[3], self.first_bad_step))
            one = torch.ones_like(self.first_bad_step)
            self.sums += torch.stack([loss.float(), correct.float(), sparsity_loss.float(), one])


class GraphedStep:
    """A TrainingStep as CUDA graphs, one a batch size: an epoch has full batches and a smaller last one.

    `peak_memory_bytes`: the most the allocator held in a step of the largest batch. It is read in the eager warm-up,
    since replays allocate nothing that the allocator counts.
    """

    def __init__(self, step: TrainingStep, batch_sizes: set[int]):
        self.model, self.training, self.reset, self.read = step.model, step.training, step.reset, step.read
        device = step.data.train_images.device
        self.graphs = {}
        saved = _snapshot(step.model, step.optimizer)
        self.peak_memory_bytes = 0
        torch.cuda.reset_peak_memory_stats(device)
        for size in sorted(batch_sizes, reverse=True):
            plan = (
                torch.zeros(size, dtype=torch.int64, device=device),
                torch.zeros(size, 2, dtype=torch.int64, device=device),
                torch.zeros(size, dtype=torch.bool, device=device),
            )
            # Warm-up outside the capture, on a stream of its own, as torch.cuda.graph asks for.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):
                    step(*plan)
            torch.cuda.current_stream().wait_stream(stream)
            if not self.graphs:
                self.peak_memory_bytes = torch.cuda.max_memory_allocated(device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step(*plan)
            self.graphs[size] = (graph, plan)
        _restore(step.model, step.optimizer, saved)
        step.reset()

    def __call__(self, index, offsets, flips) -> None:
        graph, plan = self.graphs[len(index)]
        for buffer, value in zip(plan, (index, offsets, flips), strict=True):
            buffer.copy_(value)
        graph.replay()


def _snapshot(model, optimizer) -> dict:
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return {"weights": weights, "optimizer": {k: v.clone() for k, v in optimizer_tensors(model, optimizer).items()}}


def _restore(model, optimizer, saved: dict) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(saved["weights"][name])
        for name, tensor in optimizer_tensors(model, optimizer).items():
            # What the warm-up created did not exist before: AdamW starts from zeros.
            if name in saved["optimizer"]:
                tensor.copy_(saved["optimizer"][name])
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
    """Put saved AdamW state back, into the tensors a captured graph already uses where there are any."""
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        state = optimizer.state[parameter]
        if key in state:
            state[key].copy_(value)
        else:
            # AdamW keeps the step count on the CPU unless it is fused or capturable.
            on_device = key != "step" or optimizer.defaults["fused"] or optimizer.defaults["capturable"]
            state[key] = value.to(parameter.device if on_device else "cpu", copy=True)


@torch.no_grad()
def count_correct(model, images, labels, *, data, training: TrainingConfig) -> torch.Tensor:
    """Right answers over uint8 images (n, 3, H, W) and labels (n,), as a tensor on their device.

    In batches of the training batch size, the last one smaller: under `notebook` what an image is answered depends on
    its place in the batch, so this is part of what the seed computes.
    """
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for start in range(0, len(images), training.batch_size):
        batch = normalise(images[start : start + training.batch_size], mean=data.mean, std=data.std)
        with autocast(training.precision, images.device):
            logits = model(batch)
        correct += (logits.argmax(1) == labels[start : start + training.batch_size]).sum()
    return correct
