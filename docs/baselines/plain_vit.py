"""The plain baseline of README's accuracy table: a 2-layer ViT of the study's size, trained by the study's recipe.

    snakemake download --cores 4
    python docs/baselines/plain_vit.py results/prepare_data/cifar100.safetensors

Prints the test accuracy of each random seed at its best validation epoch, their mean, and the 95 % t interval. Split,
augmentation, optimizer, schedule and number of epochs are those of config.yaml; images and split are those of `paper`.
"""

import argparse
import copy
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from torch.nn.functional import cross_entropy

from afmp.analysis.statistics import mean_and_interval
from afmp.data.augmentation import crop_and_normalise, crop_positions, epoch_plan, normalise
from afmp.data.dataset import load_dataset
from afmp.data.split import split_dataset
from afmp.errors import AfmpError
from afmp.machine.cuda_graph import capture, run_before_capture
from afmp.machine.device import resolve_device, set_matmul_precision
from afmp.study.study import read_study
from afmp.training.optimizer import build_optimizer, build_schedule

CONFIG = Path(__file__).resolve().parents[2] / "config.yaml"


def main() -> None:
    """Train every random seed, one after another, and print their accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a prepared dataset")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="random seeds (default: 0,1,2,3,4)")
    parser.add_argument("--epochs", type=int, help="epochs (default: those of config.yaml)")
    parser.add_argument("--pooling", choices=("token", "mean"), default="token", help="what the readout reads")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    arguments = parser.parse_args()
    training = read_study(CONFIG).runs["dense"].training
    device = resolve_device(arguments.device)
    set_matmul_precision("fp32")
    data = load_dataset(arguments.dataset, device=device)
    split = split_dataset(
        data, validate_on_test=False, fraction=training.validation_fraction, padding=training.crop_padding
    )
    accuracies = []
    epochs = arguments.epochs or training.epochs
    for seed in map(int, arguments.seeds.split(",")):
        torch.manual_seed(seed)
        vit = build_vit(data.num_classes, pooling=arguments.pooling).to(device)
        accuracies.append(train(vit, seed, data, split, training, epochs=epochs, device=device))
        print(f"random seed {seed}: test accuracy {accuracies[-1]:.2f} %", flush=True)
    if len(accuracies) > 1:
        interval = mean_and_interval(np.array(accuracies))
        print(
            f"mean {interval.mean:.2f} % [{interval.low:.2f}, {interval.high:.2f}], n = {len(accuracies)} random seeds"
        )


def build_vit(num_classes: int, *, pooling: str) -> torch.nn.Module:
    """Return timm's VisionTransformer with 2 layers, 128 channels, 4 heads and patches of 8.

    The readout reads the class token (436,708 parameters with 100 classes), or the mean over patches (436,452).
    """
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 4}
    readout = {} if pooling == "token" else {"class_token": False, "global_pool": "avg"}
    return timm.models.VisionTransformer(**size, **readout, num_classes=num_classes)


def train(model, seed: int, data, split, training, *, epochs: int, device: torch.device) -> float:
    """Train one random seed and return the test accuracy, in percent, of its best validation epoch."""
    optimizer = build_optimizer(model, training, device)
    schedule = build_schedule(optimizer, training)
    sizes = [len(batch) for batch in torch.arange(len(split.train_index)).split(training.batch_size)]
    start = torch.zeros(len(split.train_index), dtype=torch.int64, device=device)
    step, labels = torch.ones_like(start), torch.zeros_like(start)
    first = torch.zeros(1, dtype=torch.int64, device=device)  # image with which the next batch begins

    def train_batch(size: int) -> None:
        places = first + torch.arange(size, device=device)
        crops = (part.index_select(0, places) for part in (start, step))
        images = crop_and_normalise(split.train_images, *crops, mean=data.mean, std=data.std)
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(images), labels.index_select(0, places)).backward()
        optimizer.step()
        first.add_(size)

    run = {size: graphed(train_batch, size, model, optimizer, first) for size in sorted(set(sizes), reverse=True)}
    best, best_weights = -1.0, {}
    for epoch in range(1, epochs + 1):
        plan = epoch_plan(
            len(split.train_index),
            seed=seed,
            epoch=epoch,
            padding=training.crop_padding,
            flip=training.horizontal_flip,
        )
        order, offsets, flips = (part.to(device) for part in plan[:3])
        index = split.train_index[order]
        for target, value in zip((start, step), crop_positions(split.train_images, index, offsets, flips), strict=True):
            target.copy_(value)
        labels.copy_(split.train_labels[index])
        first.zero_()
        for size in sizes:
            run[size]()
        accuracy = percent_correct(model, split.val_images, split.val_labels, data)
        schedule.step(accuracy)
        if accuracy > best:
            best, best_weights = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_weights)
    return percent_correct(model, data.test_images, data.test_labels, data)


def graphed(train_batch, size: int, model, optimizer, first):
    """Return a call that trains on the next batch: on CUDA as a CUDA graph, with the weights as they were before."""
    if not first.is_cuda:
        return lambda: train_batch(size)
    weights, stream = copy.deepcopy(model.state_dict()), torch.cuda.Stream()
    for _ in range(3):
        first.zero_()
        run_before_capture(lambda: train_batch(size), stream)
    optimizer.zero_grad(set_to_none=True)
    graph, _ = capture(lambda: train_batch(size), stream)
    model.load_state_dict(weights)
    for state in optimizer.state.values():
        for tensor in state.values():
            tensor.zero_()
    return graph.replay


@torch.no_grad()
def percent_correct(model, images, labels, data) -> float:
    """Return the accuracy in percent on uint8 images."""
    model.eval()
    batches = zip(images.split(1000), labels.split(1000), strict=True)
    correct = sum((model(normalise(x, mean=data.mean, std=data.std)).argmax(1) == y).sum() for x, y in batches)
    model.train()
    return 100.0 * correct.item() / len(labels)


if __name__ == "__main__":
    try:
        main()
    except AfmpError as error:
        sys.exit(str(error))
