"""Image folders: the order of classes and images, and folders that are refused."""

import pytest
import torch
from image_folders import make_image_folder, plain_colour

from afmp.data.dataset import load_dataset
from afmp.data.image_folder import read_image_folder
from afmp.data.preparation import prepare_dataset
from afmp.errors import AfmpError


@pytest.fixture
def folder(tmp_path):
    return make_image_folder(tmp_path)


def test_classes_and_images_are_sorted_by_name(folder, tmp_path):
    config = {"source": "folder", "path": str(folder), "image_size": 8}
    prepare_dataset(config, tmp_path / "a.safetensors", download_folder=tmp_path)
    data = load_dataset(tmp_path / "a.safetensors")
    assert data.name == "bilder & mehr" and data.class_names == ("Apfel", "zèbre 斑马")
    assert data.train_images[:, 0, 0, 0].tolist() == [20, 21, 22, 10, 11, 12]
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_images[:, 0, 7, 7].tolist() == [110, 111, 112, 100, 101, 102]
    assert not data.train_images[:, 1:].any() and torch.equal(data.std, torch.tensor([data.std[0], 1.0, 1.0]))


def test_val_is_the_test_set_where_there_is_no_test(folder):
    (folder / "test").rename(folder / "val")
    assert len(read_image_folder(folder, image_size=8).test_images) == 6


@pytest.fixture
def flat(tmp_path):
    """A folder of two classes, of 10 and 4 images, which is not split. The red value tells the images apart."""
    for name, count, start in (("b", 10, 100), ("a", 4, 0)):
        for index in range(count):
            path = tmp_path / "flat" / name / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            plain_colour(start + index).save(path)
    return tmp_path / "flat"


def test_a_folder_of_classes_is_split_by_a_draw_that_the_name_records(flat, tmp_path):
    images = read_image_folder(flat, image_size=8)
    train, test = images.train_images[:, 0, 0, 0].tolist(), images.test_images[:, 0, 0, 0].tolist()
    assert images.name == "flat (test images: 20 % of each class, drawn with seed 0)" and images.class_names == [
        "a",
        "b",
    ]
    assert sorted(train + test) == [*range(4), *range(100, 110)]
    assert (
        images.test_labels.tolist() == [0, 1, 1] and [value // 100 for value in train] == images.train_labels.tolist()
    )
    assert test != [0, 100, 101] and test != [3, 108, 109]  # drawn, and not cut off
    again = read_image_folder(flat.rename(tmp_path / "moved"), image_size=8)
    assert (again.train_images == images.train_images).all() and again.name.startswith("moved (test images: 20 %")


@pytest.mark.promise("class-folders")
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_folder_of_classes_beside_a_split_is_refused(flat, split):
    (flat / "a").rename(flat / split)
    with pytest.raises(AfmpError, match=f"there is no {'test' if split == 'train' else 'train'}/<class>/"):
        read_image_folder(flat, image_size=8)


@pytest.mark.promise("class-folders")
def test_a_class_of_one_image_cannot_be_split(flat):
    (flat / "c").mkdir()
    plain_colour(200).save(flat / "c/1.png")
    with pytest.raises(AfmpError, match="flat/c: there is one image of this class, but it takes one for training and "):
        read_image_folder(flat, image_size=8)


FOLDER_MISTAKES = {
    "no train": (lambda root: (root / "train").rename(root / "training"), "there is no train/<class>/"),
    "no test": (
        lambda root: (root / "test").rename(root / "probe"),
        "there is no test/<class>/ or val/<class>/",
    ),
    "no classes": (
        lambda root: [p.rename(root / p.name) for p in (root / "test").iterdir()],
        "no class folders",
    ),
    "empty class": (
        lambda root: [p.unlink() for p in (root / "test" / "Apfel").iterdir()],
        "Apfel: there are no images",
    ),
    "another class": (
        lambda root: (root / "test" / "Apfel").rename(root / "test" / "Birne"),
        r"\['Apfel', 'Birne'\]",
    ),
    "nested": (
        lambda root: (root / "test" / "Apfel" / "deeper").mkdir(),
        "deeper: a class folder contains only images",
    ),
    "a text": (
        lambda root: (root / "test" / "Apfel" / "notes.txt").write_text("x"),
        "notes.txt: a class folder",
    ),
    "an empty file": (
        lambda root: (root / "test" / "Apfel" / "x y.png").write_bytes(b""),
        "x y.png: is an empty file",
    ),
    "not an image": (
        lambda root: (root / "test" / "Apfel" / "x.png").write_text("<html>"),
        "x.png: cannot be read",
    ),
}


@pytest.mark.promise("class-folders")
@pytest.mark.parametrize("mistake", FOLDER_MISTAKES)
def test_a_wrong_folder_is_refused_by_name(folder, mistake):
    make, message = FOLDER_MISTAKES[mistake]
    make(folder)
    with pytest.raises(AfmpError, match=message):
        read_image_folder(folder, image_size=8)
