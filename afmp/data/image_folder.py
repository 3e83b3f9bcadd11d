"""Image folders: train/<class>/ and test/<class>/ (or val/<class>/), as in torchvision's ImageFolder, or only <class>/.

Class names are the folders' names, sorted. Images are sorted by file name. Names that start with a dot are ignored, and
texts beside the class folders. Nothing else is left out: whatever is no folder of images is refused by name.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from afmp.data.image_file import SUFFIXES, read_image
from afmp.data.source_images import SourceImages, claim_memory
from afmp.errors import AfmpError, printable
from afmp.files import FOLDER, PLAIN_FILE, is_there, kind_of, unreadable
from afmp.log import log

DESKTOP_FILES = ("desktop.ini", "thumbs.db")
# Descriptions of a dataset often lie beside its classes. Any other file there may be a class that is not unpacked.
TEXTS = (".csv", ".html", ".json", ".md", ".pdf", ".rst", ".tsv", ".txt", ".xml", ".yaml", ".yml")
SPLITS = ("train", "test", "val")
TEST_FRACTION = 0.2  # of each class, where the folder is not split
IMAGES_PER_TASK = 16  # of one thread; few, because a photograph can take 0.1 s


class _Split(NamedTuple):
    """The image files of one split, sorted, with their classes."""

    paths: list[Path]
    labels: list[int]


def read_image_folder(folder: Path, *, image_size: int) -> SourceImages:
    """Read every image of `folder` as RGB, `image_size` pixels wide and high.

    `to_rgb` and `fit_square` say how an image becomes RGB and square. Where test/ and val/ both exist, test/ is the
    test set and val/ is not read. Links are followed. Class names are in the composed form of Unicode (NFC), so that an
    archive from a Mac, which has them in the other form, gives the same classes.

    Without any of these folders, the folder contains the classes themselves. TEST_FRACTION of each class is then drawn
    as test images by `stratified_holdout`, and the name of the dataset says so. The same names give the same draw.

    Raises AfmpError naming the file or folder for: a missing split, classes that differ between the splits, a class
    without images, a class of one image in a folder that is not split, anything in a split or class that does not
    belong there or may not be read, a name that is not UTF-8, two names of one class, two classes in one folder, and
    every image that `read_image` refuses.
    """
    folder = Path(folder).expanduser()
    if not is_there(folder) or kind_of(folder) != FOLDER:
        raise AfmpError(
            f"dataset/path: {folder} is not a folder; it must contain train/<class>/ and test/<class>/, or classes."
        )
    # Results and captions record it as one line of UTF-8.
    name = printable(os.fsencode(folder.resolve().name).decode("utf-8", errors="replace"))
    if is_split(folder):
        classes, train_files, test_files = _given_splits(folder)
    else:
        classes, train_files, test_files = _drawn_splits(folder)
        name += f" (test images: {TEST_FRACTION:.0%} of each class, drawn with seed 0)".replace("%", " %")
    claim_memory(len(train_files.paths) + len(test_files.paths), image_size)
    notes: list[tuple[str, Path]] = []
    train_images, test_images = (
        read_images(files.paths, image_size=image_size, notes=notes) for files in (train_files, test_files)
    )
    log_notes(notes)
    train_labels, test_labels = (np.array(files.labels, np.int64) for files in (train_files, test_files))
    return SourceImages(name, train_images, train_labels, test_images, test_labels, classes)


def check_image_folder(folder: Path) -> None:
    """Raise AfmpError as `read_image_folder` does for names and places, without reading an image."""
    if is_split(folder):
        _given_splits(folder)
    else:
        _classes_to_split(folder)


def is_split(folder: Path) -> bool:
    """Return whether an image folder has train/, test/ or val/, if only as a broken link, and so no classes beside."""
    return any(os.path.lexists(folder / name) for name in SPLITS)


def _given_splits(folder: Path) -> tuple[list[str], _Split, _Split]:
    train = _split_folder(folder, "train")
    test = _split_folder(folder, "test", "val")
    train_classes, test_classes = _classes(train), _classes(test)
    if train_classes.keys() != test_classes.keys():
        raise AfmpError(
            f"{folder}: {train.name}/ and {test.name}/ must have the same classes; in one only: "
            f"{_told_apart(sorted(train_classes.keys() ^ test_classes.keys())[:5])}."
        )
    return list(train_classes), _files(train_classes), _files(test_classes)


def _drawn_splits(folder: Path) -> tuple[list[str], _Split, _Split]:
    # Imported only here: PyTorch loads slowly, and the workflow reads this module at every start.
    from afmp.data.split import stratified_holdout

    classes, files = _classes_to_split(folder)
    drawn = stratified_holdout(np.array(files.labels), TEST_FRACTION)
    train, test = (_Split([files.paths[i] for i in index], [files.labels[i] for i in index]) for index in drawn)
    return list(classes), train, test


def _classes_to_split(folder: Path) -> tuple[dict[str, Path], _Split]:
    classes = _classes(folder)
    files = _files(classes)
    for path, count in zip(classes.values(), np.bincount(files.labels), strict=True):
        if count == 1:
            raise AfmpError(
                f"{path}: there is one image of this class, but it takes one for training and one for testing; add "
                "images, or remove the class."
            )
    return classes, files


def _split_folder(folder: Path, *names: str) -> Path:
    """Return the folder of the first name that exists, if only as a broken link: the next name is other data."""
    try:
        present = os.listdir(folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    for name in names:
        if name in present:
            return folder / name
    wanted = " or ".join(f"{name}/<class>/" for name in names)
    raise AfmpError(f"{folder}: there is no {wanted}; an image folder contains train/ and test/ (or val/).")


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is no part of an image folder, wherever in it it is."""
    return name.startswith(".") or name.lower() in DESKTOP_FILES


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder and not ignored, sorted by name. Raises AfmpError naming what cannot be listed."""
    if (kind := kind_of(folder)) != FOLDER:
        raise AfmpError(f"{folder}: is {kind}, where a folder belongs; move it away.")
    try:
        entries = [entry for entry in folder.iterdir() if not is_ignored(entry.name)]
    except OSError as error:
        raise unreadable(folder, error) from None
    for entry in entries:
        # Linux allows any bytes in a name. A name that is not UTF-8 could be neither recorded nor printed.
        if re.search("[\ud800-\udfff]", entry.name):
            raise AfmpError(f"{folder}: contains {entry.name!a}, a name that is not UTF-8; rename it.")
    return sorted(entries, key=lambda entry: (_composed(entry.name), entry.name))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _classes(split: Path) -> dict[str, Path]:
    """Return the class folders of a split by class name, in order."""
    classes: dict[str, Path] = {}
    folders: dict[Path, Path] = {}
    for entry in entries(split):
        kind, name = kind_of(entry), _composed(entry.name)
        if kind == PLAIN_FILE and entry.suffix.lower() in TEXTS:
            continue
        if kind != FOLDER:
            raise AfmpError(
                f"{entry}: is {kind}, where only class folders belong (and texts: {', '.join(TEXTS)}); move it away."
            )
        if name in classes:
            both = _told_apart([classes[name].name, entry.name])
            raise AfmpError(f"{split}: {both} are two spellings of one class name; put their images into one folder.")
        # Of a link to another class, the images would be there twice, under two labels.
        if (other := folders.setdefault(entry.resolve(), entry)) is not entry:
            raise AfmpError(f"{split}: {_told_apart([other.name, entry.name])} are one folder; remove the link to it.")
        classes[name] = entry
    if not classes:
        raise AfmpError(f"{split}: there are no class folders in it; images belong in {split}/<class>/.")
    return classes


def _told_apart(names: list[str]) -> str:
    """Return names as a list, with escape sequences after it if some letters could look like others."""
    return repr(names) if all(map(str.isascii, names)) else f"{names!r}, that is {names!a}"


def _files(classes: dict[str, Path]) -> _Split:
    paths, labels = [], []
    for label, folder in enumerate(classes.values()):
        members = entries(folder)
        for path in members:
            if kind_of(path) != PLAIN_FILE or path.suffix.lower() not in SUFFIXES:
                raise AfmpError(
                    f"{path}: a class folder contains only images ({', '.join(SUFFIXES)}); convert or move it."
                )
        if not members:
            raise AfmpError(f"{folder}: there are no images of this class; add some or remove the class.")
        paths += members
        labels += [label] * len(members)
    return _Split(paths, labels)


def read_images(paths: Sequence[Path], *, image_size: int, notes: list[tuple[str, Path]] | None = None) -> np.ndarray:
    """Return images (N, 3, image_size, image_size) uint8. Errors and `notes` are those of `read_image`."""
    images = np.empty((len(paths), 3, image_size, image_size), np.uint8)

    def read(start: int) -> None:
        for index in range(start, min(start + IMAGES_PER_TASK, len(images))):
            image = read_image(paths[index], image_size=image_size, notes=notes)
            images[index] = np.asarray(image).transpose(2, 0, 1)

    # Threads are enough: Pillow decodes and resizes outside the interpreter lock.
    pool = ThreadPoolExecutor()
    try:
        list(pool.map(read, range(0, len(images), IMAGES_PER_TASK)))
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def log_notes(notes: list[tuple[str, Path]]) -> None:
    """Warn of the images that other programs show otherwise: a line of each kind."""
    for kind in sorted({kind for kind, _ in notes}):
        paths = sorted(path for each, path in notes if each == kind)
        log.warning("%s: %s, such as %s", kind, f"{len(paths):,}", paths[0])
