"""Class folders: whatever is none is refused by name, and no class vanishes without a word."""

import logging
import os
import re
import shutil
import unicodedata
from pathlib import Path

import pytest
from image_folders import make_image_folder, plain_colour

from afmp.data.dataset import load_dataset
from afmp.data.image_folder import read_image_folder
from afmp.data.preparation import prepare_dataset
from afmp.data.source_images import claim_memory
from afmp.errors import AfmpError

COMPOSED, DECOMPOSED = "z\xe8bre", "ze\u0300bre"


@pytest.fixture
def folder(tmp_path) -> Path:
    return make_image_folder(tmp_path)


NO_CLASSES = {
    "broken link": (lambda path: path.symlink_to("/nowhere/x"), "c: is a broken link: /nowhere/x does not exist"),
    "link to itself": (lambda path: path.symlink_to(path), "c: is a broken link, which leads back to itself"),
    "link to a file": (lambda path: path.symlink_to("/etc/passwd"), "c: is a plain file, where only class folders"),
    "plain file": (lambda path: path.write_text("../somewhere/c"), "c: is a plain file, where only class folders"),
    "pipe": (os.mkfifo, "c: is a pipe, where only class folders"),
    "device": (lambda path: path.symlink_to("/dev/null"), "c: is a device, where only class folders"),
    "archive": (lambda path: path.with_suffix(".tar").write_bytes(b"x"), r"c\.tar: is a plain file"),
    "image": (lambda path: plain_colour(1).save(path.with_suffix(".png")), r"c\.png: is a plain file"),
    "empty": (lambda path: path.mkdir(), "c: there are no images of this class"),
    "only hidden files": (lambda path: (path.mkdir(), (path / "._0.png").touch()), "c: there are no images"),
    "a Mac's metadata": (
        lambda path: ((path.parent / "__MACOSX/c").mkdir(parents=True), (path.parent / "__MACOSX/c/._0.png").touch()),
        "__MACOSX/c: a class folder contains only images",
    ),
    "link to another class": (lambda path: path.symlink_to("Apfel"), r"train: \['Apfel', 'c'\] are one folder"),
    "link to a link to another class": (
        lambda path: (path.symlink_to("Apfel"), path.with_name("B").symlink_to(path)),
        r"train: \['Apfel', 'B'\] are one folder",
    ),
    "link to the parent": (lambda path: path.symlink_to(".."), "c/test: a class folder contains only images"),
}


@pytest.mark.promise("class-folders")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", NO_CLASSES)
def test_what_is_no_class_folder_is_refused_by_name(folder, kind):
    make, message = NO_CLASSES[kind]
    for split in ("train", "test"):
        make(folder / split / "c")
    with pytest.raises(AfmpError, match=message):
        read_image_folder(folder, image_size=8)


NO_SPLITS = {
    "broken link": (lambda path: path.symlink_to("/nowhere/x"), "is a broken link: /nowhere/x does not exist"),
    "link to itself": (lambda path: path.symlink_to(path), "is a broken link, which leads back to itself"),
    "plain file": (lambda path: path.touch(), "is a plain file, where a folder belongs"),
    "pipe": (os.mkfifo, "is a pipe, where a folder belongs"),
}


@pytest.mark.promise("class-folders")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("kind", NO_SPLITS)
def test_what_is_no_split_is_refused_and_never_replaced_by_another(folder, split, kind):
    make, message = NO_SPLITS[kind]
    (folder / split).rename(folder / "val")  # would be read if there were no test/
    make(folder / split)
    with pytest.raises(AfmpError, match=f"{split}: {message}"):
        read_image_folder(folder, image_size=8)


def test_a_link_to_a_split_or_a_class_is_followed(folder):
    (folder / "train").rename(folder.parent / "elsewhere")
    (folder / "train").symlink_to(folder.parent / "elsewhere")
    (folder / "test" / "Apfel").rename(folder.parent / "apples")
    (folder / "test" / "Apfel").symlink_to(folder.parent / "apples")
    assert len(read_image_folder(folder, image_size=8).train_images) == 6


CLOSED = {
    "class, 0": ("train/Apfel", 0, r"train/Apfel: cannot be read \(Permission denied\)|train/Apfel may not be entered"),
    "class, 644": ("train/Apfel", 0o644, r"the folder \S.*/train/Apfel may not be entered \(Permission denied\)"),
    "split, 0": ("test", 0, r"test: cannot be read \(Permission denied\)|the folder \S.*/test may not be entered"),
    "split, 644": ("train", 0o644, r"the folder \S.*/train may not be entered \(Permission denied\)"),
    "images, 0": (".", 0, r"bilder & mehr: cannot be read \(Permission denied\)|bilder & mehr may not be entered"),
    "images, 644": (".", 0o644, r"the folder \S.*/bilder & mehr may not be entered"),
    "one image": (
        "test/Apfel/bild 0 ü.png",
        0,
        r"bild 0 ü\.png: cannot be read \(Permission denied\); make it readable",
    ),
}


@pytest.mark.promise("permissions")
@pytest.mark.parametrize("case", CLOSED)
def test_a_folder_or_image_without_permission_is_called_so(powerless, case):
    path, mode, message = CLOSED[case]
    folder = make_image_folder(powerless)
    (folder / path).chmod(mode)
    with pytest.raises(AfmpError, match=message):
        read_image_folder(folder, image_size=8)


@pytest.mark.promise("class-spelling")
def test_names_of_a_mac_are_the_same_classes_and_the_same_dataset(folder, tmp_path):
    """Linux and Windows keep è as one letter, a Mac's archives as e and an accent."""
    name = "zèbre 斑马"
    assert unicodedata.is_normalized("NFC", name)
    hashes = set()
    for form in ("NFC", "NFD"):
        mac = tmp_path / form
        shutil.copytree(folder, mac)
        (mac / "train" / name).rename(mac / "train" / unicodedata.normalize(form, name))
        for file in (mac / "test" / "Apfel").iterdir():
            file.rename(file.with_name(unicodedata.normalize(form, file.name)))
        config = {"source": "folder", "path": str(mac), "image_size": 8}
        prepare_dataset(config, tmp_path / "x.safetensors", download_folder=tmp_path)
        data = load_dataset(tmp_path / "x.safetensors")
        assert data.class_names == ("Apfel", name)
        hashes.add(data.hash)
    assert len(hashes) == 1


@pytest.mark.promise("class-spelling")
@pytest.mark.parametrize("names", [(COMPOSED, DECOMPOSED), ("\u1112\u1161\u11ab", "\ud55c")], ids=ascii)
def test_two_spellings_of_one_class_are_told_apart(folder, names):
    for name in names:
        shutil.copytree(folder / "train" / "Apfel", folder / "train" / name)
    with pytest.raises(AfmpError, match=r"train: \[.*\] are two spellings of one class name") as caught:
        read_image_folder(folder, image_size=8)
    assert all(ascii(name) in str(caught.value) for name in names)


@pytest.mark.promise("class-spelling")
def test_class_names_that_only_look_alike_are_told_apart(folder):
    (folder / "test" / "Apfel").rename(folder / "test" / "\u0410pfel")  # a Cyrillic letter
    with pytest.raises(AfmpError, match=re.escape(r"that is ['Apfel', '\u0410pfel']")):
        read_image_folder(folder, image_size=8)


def test_a_folder_whose_name_is_no_text_gives_a_name_that_can_be_recorded(folder):
    odd = Path(os.fsdecode(os.fsencode(folder.parent) + b"/im\xffages"))
    folder.rename(odd)
    assert read_image_folder(odd, image_size=8).name == "im\ufffdages"


@pytest.mark.promise("memory-of-images")
def test_the_memory_of_an_image_size_is_logged_before_it_is_taken(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "afmp")
    config = {"source": "folder", "path": str(folder), "image_size": 8}
    prepare_dataset(config, tmp_path / "x.safetensors", download_folder=tmp_path)
    assert caplog.messages[0].startswith("12 images of 8 px take 0.00 GB of memory")
    caplog.clear()
    prepare_dataset({"source": "digits", "image_size": 40}, tmp_path / "x.safetensors", download_folder=tmp_path)
    assert caplog.messages[0].startswith("1,797 images of 40 px take 0.01 GB of memory")


@pytest.mark.promise("memory-of-images")
def test_an_image_size_that_the_machine_has_no_memory_for_is_refused(folder):
    with pytest.raises(AfmpError, match=r"dataset/image_size: 12 images of 1,000,000 px take 36,000\.00 GB of memory"):
        read_image_folder(folder, image_size=1_000_000)
    with pytest.raises(
        AfmpError, match=r"60,000 images of 30,000 px take 162,000\.00 GB of memory, and this machine has"
    ):
        claim_memory(60_000, 30_000)
