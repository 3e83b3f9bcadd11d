"""The prepared file: the same bytes for the same input, and no damage goes unnoticed."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PROJECT
from image_folders import make_image_folder
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from afmp.data import dataset
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


def rewritten(source: Path, target: Path, change) -> Path:
    """Write a dataset whose metadata and tensors `change` edits, with the right hash of what it then contains."""
    with safe_open(source, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["dataset"])  # noqa: SIM118
    change(metadata, tensors)
    with contextlib.suppress(KeyError, TypeError):
        metadata["hash"] = dataset._content_hash(metadata, tensors)
    save_file(tensors, target, {"dataset": json.dumps(metadata)})
    return target


ABSURD = {
    "no classes": (lambda metadata, tensors: metadata.pop("class_names"), "class_names is None"),
    "classes of no text": (lambda metadata, tensors: metadata.update(class_names=[1, 2]), r"class_names is \[1, 2\]"),
    "no mean": (lambda metadata, tensors: metadata.update(mean="bright"), "mean is 'bright'"),
    "infinite mean": (lambda metadata, tensors: metadata.update(mean=[float("inf")] * 3), r"mean is \[inf, inf, inf\]"),
    "zero deviation": (
        lambda metadata, tensors: metadata.update(std=[0.0] * 3),
        r"std is \[0.0, 0.0, 0.0\], not three",
    ),
    "a label too large": (
        lambda metadata, tensors: tensors["test_labels"].__setitem__(0, 10),
        "test_labels has labels that are not among its 10 classes",
    ),
    "a label too small": (
        lambda metadata, tensors: tensors["train_labels"].__setitem__(3, -1),
        "train_labels has labels",
    ),
    "no test images": (
        lambda metadata, tensors: tensors.update({key: tensors[key][:0] for key in ("test_images", "test_labels")}),
        r"test_images is torch.uint8 of shape \(0, 3, 32, 32\), not images of one size",
    ),
    "labels of other images": (
        lambda metadata, tensors: tensors.update(test_labels=tensors["train_labels"].clone()),
        r"test_labels is torch.int64 of shape \(1442,\), not a label per image",
    ),
    "floats": (
        lambda metadata, tensors: tensors.update(train_images=tensors["train_images"][:9].float()),
        "train_images is torch.float32",
    ),
    "two sizes": (
        lambda metadata, tensors: tensors.update(test_images=tensors["test_images"][..., :16, :16].contiguous()),
        "test_images is torch.uint8 of shape",
    ),
    "a single number": (
        lambda metadata, tensors: tensors.update(train_images=torch.tensor(3, dtype=torch.uint8)),
        r"train_images is torch.uint8 of shape \(\)",
    ),
    "a missing tensor": (lambda metadata, tensors: tensors.pop("test_labels"), "not a prepared dataset"),
}


@pytest.mark.promise("damaged-dataset")
@pytest.mark.parametrize("case", ABSURD)
def test_a_file_that_is_no_dataset_is_refused_although_its_hash_is_right(digits_file, tmp_path, case):
    change, message = ABSURD[case]
    path = rewritten(digits_file, tmp_path / "x.safetensors", change)
    with pytest.raises(
        AfmpError, match=rf"x\.safetensors: .*{message}.*; delete it so that it is prepared again"
    ) as caught:
        load_dataset(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.promise("damaged-dataset")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("entry", ["[" * 100_000, "{}", "7", "no JSON", '{"format_version": [[1]]}'])
def test_absurd_metadata_of_a_dataset_is_one_sentence(digits_file, tmp_path, entry):
    with safe_open(digits_file, framework="pt") as file:
        tensors = {key: file.get_tensor(key)[:2].clone() for key in file.keys()}  # noqa: SIM118
    save_file(tensors, tmp_path / "x.safetensors", {"dataset": entry})
    with pytest.raises(AfmpError, match=r"x\.safetensors: .*; delete it so that it is prepared again"):
        load_dataset(tmp_path / "x.safetensors")


@pytest.mark.promise("permissions")
def test_a_dataset_that_may_not_be_read_is_not_called_missing(powerless):
    path = powerless / "x.safetensors"
    path.write_bytes(b"images")
    path.chmod(0)
    with pytest.raises(AfmpError, match=r"x\.safetensors: cannot be read \(Permission denied\)"):
        load_dataset(path)
    powerless.chmod(0o600)
    with pytest.raises(AfmpError, match=r"the folder \S+ may not be entered \(Permission denied\)"):
        load_dataset(path)


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
