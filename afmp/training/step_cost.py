"""The cost of a training step: its time and memory, with one model alone on the device.

Seeds train as a stack, and runs side by side, so the seconds of an epoch are not those of one model. A few steps of a
copy of the model are measured before training starts, when nothing else trains on the GPU. On a CPU, jobs of other runs
may share its cores.
"""

import copy

import numpy
import torch

from afmp.data.dataset import PreparedDataset
from afmp.data.split import Split
from afmp.machine.timing import milliseconds
from afmp.model.stack import stack_models
from afmp.study.run_config import TrainingConfig
from afmp.training.optimizer import build_optimizer
from afmp.training.plan import draw_plan
from afmp.training.seed_state import SeedTraining
from afmp.training.step import GraphedStep, TrainingStep

STEPS = {"cuda": 50, "mps": 10, "cpu": 3}  # timed steps; a step on a CPU is slow
WARM_UP = {"cuda": 10, "mps": 3, "cpu": 1}


def measure_step(seed: SeedTraining, *, data: PreparedDataset, split: Split, training: TrainingConfig) -> dict:
    """Return the cost of training `seed` for one step of a full batch: {milliseconds, memory_mb}, as in its result.

    Milliseconds are quantiles over STEPS steps. Memory is the peak of a step on CUDA, in MiB, with the model, its
    averaged weights and AdamW's state, and without the dataset; else None. The seed itself is not changed.
    """
    device = split.train_index.device
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    model, average = copy.deepcopy(seed.model), copy.deepcopy(seed.average)
    step = TrainingStep(
        stack_models([model]),
        [model],
        [build_optimizer(model, training, device)],
        data=data,
        split=split,
        training=training,
        average=None if average is None else stack_models([average]),
    )
    shape, memory = tuple(data.train_images.shape[-2:]), None
    plan = draw_plan(training, num_images=len(split.train_index), image_shape=shape, seed=seed.seed, epoch=1)
    step.begin([plan], epoch=1)
    run = step
    if device.type == "cuda":
        run = GraphedStep(step)
        memory = (run.peak_memory_bytes - before) / 2**20
    times = []
    for number in range(WARM_UP[device.type] + STEPS[device.type]):
        step.next_step.zero_()  # always the first batch, which is a full one
        spent = milliseconds(lambda: run(step.batch_sizes[0]), device)
        if number >= WARM_UP[device.type]:
            times.append(spent)
    q25, median, q75 = numpy.quantile(times, [0.25, 0.5, 0.75]).tolist()
    return {"milliseconds": {"median": median, "q25": q25, "q75": q75, "n": len(times)}, "memory_mb": memory}
