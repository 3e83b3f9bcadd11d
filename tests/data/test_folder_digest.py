"""The digest of an image folder: equal for equal images, wherever they lie and whenever they were written."""

import os
import shutil
from pathlib import Path

import pytest

from afmp.data import folder_digest as module
from afmp.data.folder_digest import folder_digest


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    for place in ("train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(place)
    return folder


@pytest.fixture
def known(tmp_path) -> Path:
    return tmp_path / "results/folder_digest.json"


def test_a_renamed_and_a_copied_folder_have_the_digest_of_the_original(images, known, tmp_path):
    first = folder_digest(images, known=known)
    renamed = images.rename(tmp_path / "renamed")
    copy = shutil.copytree(renamed, tmp_path / "elsewhere/copy", copy_function=shutil.copyfile)
    for path in copy.rglob("*.png"):
        os.utime(path, (0, 0))
    (tmp_path / "link").symlink_to(copy)
    assert {folder_digest(folder, known=known) for folder in (renamed, copy, tmp_path / "link")} == {first}


def test_unchanged_images_are_not_read_again(images, known, monkeypatch):
    first = folder_digest(images, known=known)
    monkeypatch.setattr(module, "_content", None)
    assert folder_digest(images, known=known) == first
    assert folder_digest(images.rename(images.with_name("renamed")), known=known) == first


@pytest.mark.parametrize("broken", ["", "[]", "{}", "null", "{"])
def test_a_damaged_record_of_the_digest_is_not_used(images, known, broken):
    first = folder_digest(images, known=known)
    known.write_text(broken)
    assert folder_digest(images, known=known) == first


def change_a_byte_and_keep_size_and_time(images: Path) -> None:
    path = images / "train/cat/1.png"
    times = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES = {
    "changed": change_a_byte_and_keep_size_and_time,
    "new": lambda images: (images / "test/dog/2.png").touch(),
    "removed": lambda images: (images / "test/dog/1.png").unlink(),
    "renamed": lambda images: (images / "test/dog/1.png").rename(images / "test/dog/0.png"),
    "in another class": lambda images: (images / "test/dog/1.png").rename(images / "test/cat/2.png"),
    "class": lambda images: (images / "train/dog").rename(images / "train/wolf"),
    "empty class": lambda images: (images / "train/empty").mkdir(),
    "broken link": lambda images: (images / "train/link").symlink_to("nowhere"),
    "broken link in the place of a split": lambda images: (
        (images / "test").rename(images / "val").with_name("test").symlink_to("nowhere")
    ),
    "pipe": lambda images: os.mkfifo(images / "train/cat/pipe.png"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_of_what_is_read_changes_the_digest(images, known, change):
    first = folder_digest(images, known=known)
    change(images)
    assert folder_digest(images, known=known) != first


@pytest.mark.parametrize("place", ["cat/1.png", "dog/2.png"])
def test_a_folder_of_classes_alone_is_read_too(tmp_path, known, place):
    images = tmp_path / "classes"
    for name in ("cat", "dog"):
        (images / name).mkdir(parents=True)
        (images / name / "1.png").write_text(name)
    first = folder_digest(images, known=known)
    assert folder_digest(images, known=known) == first
    (images / place).write_text("another")
    assert folder_digest(images, known=known) != first


def test_what_is_not_read_does_not_count(images, known):
    first = folder_digest(images, known=known)
    for place in ("train/cat/.hidden", "train/cat/Thumbs.db", "val/cat/1.png", "notes.txt", "train/cat/.git/x"):
        (images / place).parent.mkdir(parents=True, exist_ok=True)
        (images / place).write_text("?")
    assert folder_digest(images, known=known) == first
    assert folder_digest(images / "nowhere", known=known) != first
