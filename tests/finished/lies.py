"""Lies for a finished study: each function returns one that `tell`s it, given the results folder.

Tests tell the lies of a group together, each about other files, and then `bless` the manifest, so that something else
than the hash of a file must reveal them.
"""

import json
import os
import re
import shutil
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from afmp.data.dataset import load_dataset, write_dataset
from afmp.data.source_images import SourceImages
from afmp.finished.study_files import study_drawings
from afmp.finished.study_manifest import file_entry
from afmp.records import with_checksum
from afmp.study.study import read_study
from afmp.training.checkpoint import save_weights


def result(run: str, semantics: str, seed: int) -> str:
    return f"train/{semantics}/{run}/seed_{seed}/results_{run}.json"


def beside(path: str, name: str) -> str:
    return str(Path(path).with_name(name))


def read(path: Path) -> dict:
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    return content


def write(path: Path, content: dict) -> None:
    """Write a record with its right checksum, so that only contradictions reveal a change."""
    path.write_text(json.dumps(with_checksum(content)))


def edit(path: Path, **changes) -> None:
    write(path, read(path) | changes)


def bless(results: Path) -> None:
    """Write the manifest again for the files that can be read, as one who covers his traces does."""
    manifest = read(results / "manifest.json")
    for path in manifest["files"]:
        file = results / path
        if file.is_file() and file.stat().st_size < 10**8:
            manifest["files"][path] = file_entry(file)
    write(results / "manifest.json", manifest)


# Lies about one file, given its path below the results folder


def gone(path: str):
    return lambda results: (results / path).unlink()


def text(path: str, content: str):
    return lambda results: (results / path).write_text(content)


def replaced(path: str, pattern: str, by: str):
    def tell(results: Path) -> None:
        changed, count = re.subn(pattern, by, (results / path).read_text(), count=1)
        assert count
        (results / path).write_text(changed)

    return tell


def edited(path: str, **changes):
    return lambda results: edit(results / path, **changes)


def merged(path: str, key: str, **changes):
    return lambda results: edit(results / path, **{key: read(results / path)[key] | changes})


def in_history(path: str, key: str, epoch: int, value: float):
    def tell(results: Path) -> None:
        history = read(results / path)["training_history"]
        history[key][epoch - 1] = value
        edit(results / path, training_history=history)

    return tell


def copied(source: str, path: str):
    return lambda results: shutil.copy(results / source, results / path)


def pipe(path: str):
    def tell(results: Path) -> None:
        (results / path).unlink()
        os.mkfifo(results / path)

    return tell


def folder(path: str):
    def tell(results: Path) -> None:
        (results / path).unlink()
        (results / path).mkdir()

    return tell


def listener(path: str):
    def tell(results: Path) -> None:
        (results / path).unlink()
        here = os.getcwd()
        os.chdir((results / path).parent)  # the path of a socket may have 107 characters
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(Path(path).name)
        os.chdir(here)

    return tell


def endless(path: str):
    def tell(results: Path) -> None:
        (results / path).unlink()
        (results / path).symlink_to("/dev/zero")

    return tell


def sparse(path: str):
    return lambda results: os.truncate(results / path, 2 * 10**9)


def nested(path: str):
    return lambda results: (results / path).write_text("[" * 100_000 + "]" * 100_000)


# Lies about weights


def weights(path: str, change=lambda tensors: None, metadata=None):
    """Save changed weights, or the same with other metadata; the result gets their sha256 if `covered` is added.

    metadata: entries, or a function that changes what the weights say of themselves.
    """

    def tell(results: Path) -> None:
        with safe_open(results / path, framework="pt") as file:
            about = file.metadata()
        tensors = load_file(results / path)
        change(tensors)
        said = {"about": json.dumps(metadata(json.loads(about["about"])))} if callable(metadata) else metadata
        save_weights(results / path, tensors, metadata=about if metadata is None else said)

    return tell


def covered(path: str, tell):
    """Tell a lie about weights or diagnostics, and write their new hash into the result beside them."""

    def tell_and_cover(results: Path) -> None:
        tell(results)
        beside_it = next((results / path).parent.glob("results_*.json"))
        files = read(beside_it)["files"]
        if path.endswith(".json"):
            files["diagnostics"] = json.loads((results / path).read_text())["checksum"]
        else:
            files[Path(path).stem] = file_entry(results / path)["sha256"]
        edit(beside_it, files=files)

    return tell_and_cover


def zeros(tensors: dict) -> None:
    for name in tensors:
        if tensors[name].is_floating_point() and name not in ("static_positions", "edge_attr"):
            tensors[name] = torch.zeros_like(tensors[name])


def spoil(tensors: dict) -> None:
    tensors["embed.weight"][0, 0] = float("nan")


def widen(tensors: dict) -> None:
    tensors["embed.weight"] = torch.zeros(16, 192)


def move_a_patch(tensors: dict) -> None:
    tensors["static_positions"][0] += 0.01


def swapped(one: str, other: str):
    def tell(results: Path) -> None:
        contents = [(results / path).read_bytes() for path in (one, other)]
        for path, content in zip((other, one), contents, strict=True):
            (results / path).write_bytes(content)

    return tell


# Lies about points of a sweep


def in_points(change, *paths: str):
    """Change the points of sweeps; `change` gets the list of points."""

    def tell(results: Path) -> None:
        for path in paths:
            content = read(results / path)
            change(content["points"])
            write(results / path, content)

    return tell


def of_point(number: int, key: str, value):
    def change(points: list[dict]) -> None:
        part, _, name = key.partition("/")
        if name:
            points[number][part][name] = value
        else:
            points[number][part] = value

    return change


# Names of the finished study

TOP, SPARSE, WINDOW = "top_down", "sparse_0.3", "sparse_0.4"
R = {
    (run, semantics, seed): result(run, semantics, seed)
    for run in (TOP, SPARSE, WINDOW)
    for semantics in ("paper", "notebook")
    for seed in (0, 1, 2)
}
P, N = "paper", "notebook"
GPU = {"type": "cuda", "name": "NVIDIA H100 80GB HBM3"}


def best(run, semantics, seed):
    return beside(R[run, semantics, seed], "best.safetensors")


def final(run, semantics, seed):
    return beside(R[run, semantics, seed], "final.safetensors")


def gates(run, semantics, seed):
    return beside(R[run, semantics, seed], "diagnostics.json")


def sweep(semantics):
    return f"benchmark_scalability/{semantics}/scalability.json"


def part(semantics, size):
    return f"benchmark_resolution/{semantics}/{size}.json"


def by_someone_else(path, **changes):
    """Say in `trained_by` and at the top that someone else trained."""

    def tell(results: Path) -> None:
        first = read(results / path)["trained_by"][0] | changes
        edit(results / path, trained_by=[first], **{key: first[key] for key in ("device", "versions")})

    return tell


def starts(path, *epochs):
    def tell(results: Path) -> None:
        first = read(results / path)["trained_by"][0]
        edit(results / path, trained_by=[first | {"from_epoch": epoch} for epoch in epochs])

    return tell


def changed(path, change):
    def tell(results: Path) -> None:
        content = read(results / path)
        change(content)
        edit(results / path, **content)

    return tell


def of_another_seed(path, other, seed):
    def tell(results: Path) -> None:
        edit(results / path, **read(results / other) | {"seed": seed})

    return tell


def history_of(path, other, *keys):
    def tell(results: Path) -> None:
        theirs = read(results / other)["training_history"]
        mine = read(results / path)["training_history"]
        edit(results / path, training_history=mine | {key: theirs[key] for key in keys})

    return tell


def weights_of(path, other):
    def tell(results: Path) -> None:
        theirs = load_file(results / other)
        weights(path, lambda tensors: tensors.update(theirs))(results)

    return tell


def together(results: Path) -> None:
    """Two seeds that say they trained in one stack, on two devices."""
    for seed in (0, 1):
        edit(results / R[WINDOW, P, seed], trained_together=[0, 1])
    by_someone_else(R[WINDOW, P, 1], device={"type": "cpu", "name": "another"})(results)


def without(path, key):
    def tell(results: Path) -> None:
        content = read(results / path)
        del content[key]
        write(results / path, content)

    return tell


def pixel(path, levels, at=(5, 5)):
    def tell(results: Path) -> None:
        with Image.open(results / path) as image:
            pixels = np.array(image)
        pixels[at] = pixels[at] ^ levels
        Image.fromarray(pixels).save(results / path)

    return tell


def of_other_data(path):
    """Draw a figure from a result that is then put back."""

    def tell(results: Path) -> None:
        one = results / R[TOP, P, 0]
        kept = one.read_bytes()
        edit(one, test_accuracy=read(one)["test_accuracy"] + 30)
        study = read_study(results.parent / "config.yaml")
        drawing = next(drawing for drawing in study_drawings(study) if drawing.path == path)
        drawing.write(source=results, folder=results)
        one.write_bytes(kept)

    return tell


def added(path):
    def tell(results: Path) -> None:
        (results / path).parent.mkdir(parents=True, exist_ok=True)
        (results / path).write_text("{}")

    return tell


FIGURE = "figures/paper/comparison_topdown_vs_no"
PICTURE = "plot_diagnostics/notebook/sparse_0.3/epoch_0002"
COUNTS = "count_parameters/parameters.json"
DATA = "prepare_data/digits.safetensors"


def drop_entry(path: str):
    def tell(results: Path) -> None:
        files = read(results / "manifest.json")["files"]
        del files[path]
        edit(results / "manifest.json", files=files)

    return tell


def in_config(path: str, section: str, **changes):
    def tell(results: Path) -> None:
        config = read(results / path)["config"]
        edit(results / path, config=config | {section: config[section] | changes})

    return tell


def shorter(path: str, epochs: int):
    def tell(results: Path) -> None:
        history = read(results / path)["training_history"]
        edit(results / path, training_history={key: values[:epochs] for key, values in history.items()})

    return tell


def cut(path: str, size: int):
    return lambda results: os.truncate(results / path, size)


def content(path: str, content: bytes):
    return lambda results: (results / path).write_bytes(content)


def huge_png() -> bytes:
    """A PNG of 100,000 x 100,000 px in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def as_json(path: str):
    """Write the same content in another layout."""
    return lambda results: edit(results / path)


def jpeg(path: str):
    def tell(results: Path) -> None:
        with Image.open(results / path) as image:
            image.convert("RGB").save(results / path, format="JPEG")

    return tell


def other_dataset(path: str):
    """Write the dataset again with two labels exchanged, so that all counts stay."""

    def tell(results: Path) -> None:
        data = load_dataset(results / path)
        labels = data.test_labels.numpy().copy()
        first, second = 0, int(np.flatnonzero(labels != labels[0])[0])
        labels[[first, second]] = labels[[second, first]]
        images = SourceImages(
            data.name, data.train_images.numpy(), data.train_labels.numpy(), data.test_images.numpy(), labels,
            list(data.class_names),
        )  # fmt: skip
        write_dataset(results / path, images, mean=data.mean.tolist(), std=data.std.tolist())

    return tell


def flipped_bit(path: str):
    def tell(results: Path) -> None:
        changed = bytearray((results / path).read_bytes())
        changed[-100] ^= 1
        (results / path).write_bytes(changed)

    return tell
