"""The prepared file: the same bytes for the same input, and no damage goes unnoticed."""

import subprocess
import sys

import pytest
import torch
from conftest import PROJECT
from image_folders import make_image_folder
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from afmp.data.dataset import load_dataset
from afmp.data.preparation import prepare_dataset
from afmp.errors import AfmpError

DIGITS = {"source": "digits", "path": None, "image_size": 32}


@pytest.fixture
def folder(tmp_path):
    return make_image_folder(tmp_path)


def test_the_digits_are_the_published_ones_split_by_class(digits_file):
    data = load_dataset(digits_file)
    assert data.train_images.shape == (1442, 3, 32, 32) and data.test_images.shape == (355, 3, 32, 32)
    counts = torch.bincount(torch.cat([data.train_labels, data.test_labels])).tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI's own counts
    assert torch.bincount(data.test_labels).tolist() == [count // 5 for count in counts]
    assert data.train_images.min() == 0 and data.train_images.max() == 255
    assert torch.equal(data.train_images[:, 0], data.train_images[:, 2])
    # Ink in the middle of a 1 and none in the middle of a 0: images and labels belong together.
    middle = data.train_images[:, 0, 12:20, 14:18].float().mean((1, 2))
    assert middle[data.train_labels == 1].mean() > 4 * middle[data.train_labels == 0].mean()
    assert [path.name for path in digits_file.parent.iterdir()] == [digits_file.name]  # no network, no leftovers


@pytest.mark.promise("same-prepared-bytes")
def test_the_same_input_gives_the_same_bytes_in_another_process(digits_file, tmp_path):
    code = f"""from pathlib import Path; from afmp.data.preparation import prepare_dataset
prepare_dataset({DIGITS}, Path({str(tmp_path / "again")!r}), download_folder=Path("/nowhere"))"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)
    assert (tmp_path / "again").read_bytes() == digits_file.read_bytes()


def test_the_hash_depends_on_the_content_only(folder, tmp_path):
    def hash_of(root, size=8):
        config = {"source": "folder", "path": root, "image_size": size}
        prepare_dataset(config, tmp_path / "a", download_folder=tmp_path)
        return load_dataset(tmp_path / "a").hash

    before = hash_of(folder)
    moved = folder.rename(tmp_path / "moved")
    assert hash_of(moved) == before
    assert hash_of(moved, size=9) != before
    (moved / "train" / "Apfel").rename(moved / "train" / "Apple")
    (moved / "test" / "Apfel").rename(moved / "test" / "Apple")
    renamed = hash_of(moved)
    first = moved / "train" / "Apple" / "bild 0 ü.png"
    image = Image.open(first).copy()
    image.putpixel((3, 3), (21, 0, 0))
    image.save(first)
    assert len({before, renamed, hash_of(moved)}) == 3


@pytest.mark.promise("damaged-dataset")
def test_a_damaged_file_is_refused_by_name(digits_file, tmp_path):
    content = bytearray(digits_file.read_bytes())
    with safe_open(digits_file, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    damaged = tmp_path / "damaged.safetensors"
    mean_at = content.index(b"mean") + 12
    for position in (len(content) - 1, len(content) // 2, 20_000, mean_at):
        flipped = bytearray(content)
        flipped[position] ^= 1
        damaged.write_bytes(flipped)
        with pytest.raises(AfmpError, match=r"damaged.safetensors.*delete it so that it is prepared again"):
            load_dataset(damaged)
    for wrong in (b"", b"not this", content[:-1], content[: len(content) // 2]):
        damaged.write_bytes(wrong)
        with pytest.raises(AfmpError, match=r"damaged.safetensors.*delete it so that it is prepared again"):
            load_dataset(damaged)
    save_file(tensors, damaged)
    with pytest.raises(AfmpError, match="not a prepared dataset"):
        load_dataset(damaged)
    old = metadata["dataset"].replace('"format_version": 1', '"format_version": 0')
    save_file(tensors, damaged, {"dataset": old})
    with pytest.raises(AfmpError, match="has format version 0, this version reads 1"):
        load_dataset(damaged)
    with pytest.raises(AfmpError, match="absent: no such file"):
        load_dataset(tmp_path / "absent")


@pytest.mark.promise("failed-preparation")
def test_a_failed_preparation_keeps_the_old_file(digits_file, folder, tmp_path):
    target = tmp_path / "out" / "data.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"old")
    (folder / "test" / "Apfel" / "bad.png").write_bytes(b"")
    with pytest.raises(AfmpError):
        prepare_dataset({"source": "folder", "path": folder, "image_size": 8}, target, download_folder=tmp_path)
    assert target.read_bytes() == b"old" and len(list(target.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "cifar"}, "dataset/source: found 'cifar'; allowed are cifar100, cifar10, folder, digits"),
        ({"image_size": 0}, "dataset/image_size: found 0"),
        ({"source": "folder"}, "dataset/path: found nothing"),
        ({"source": "folder", "path": "/no/such"}, "dataset/path: /no/such is not a folder"),
    ],
)
def test_the_error_for_an_impossible_config_names_its_key(tmp_path, change, message):
    with pytest.raises(AfmpError, match=message):
        prepare_dataset(DIGITS | change, tmp_path / "a", download_folder=tmp_path)
