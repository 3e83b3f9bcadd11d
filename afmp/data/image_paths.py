"""Image files that a person names, one by one or by a folder above them."""

from collections.abc import Iterable
from pathlib import Path

from afmp.data.image_file import SUFFIXES
from afmp.data.image_folder import entries
from afmp.errors import AfmpError
from afmp.files import FOLDER, kind_of
from afmp.log import log


def image_paths(named: Iterable[Path | str]) -> list[Path]:
    """Return the named files, and in the place of a folder all images below it, sorted. No image is opened.

    Below a folder, a file is an image by the ending of its name. The log says how many others are left out. Names that
    an image folder ignores are ignored. Links are followed.

    Raises AfmpError for a name that does not exist, for a folder without images, for one that is reached twice, and for
    whatever in it cannot be listed.
    """
    paths: list[Path] = []
    for path in map(Path, named):
        paths += _images_below(path) if kind_of(path) == FOLDER else [path]
    return paths


def _images_below(top: Path) -> list[Path]:
    images: list[Path] = []
    folders: dict[Path, Path] = {}
    num_others, pending = 0, [top]
    while pending:
        path = pending.pop()
        if kind_of(path) == FOLDER:
            # A link to a folder above it would never end.
            if (other := folders.setdefault(path.resolve(), path)) is not path:
                raise AfmpError(f"{path}: is the same folder as {other}; remove the link.")
            pending += reversed(entries(path))
        elif path.suffix.lower() in SUFFIXES:
            images.append(path)
        else:
            num_others += 1
    if not images:
        raise AfmpError(f"{top}: there are no images in this folder or below it ({', '.join(SUFFIXES)}); add some.")
    if num_others:
        endings = ", ".join(SUFFIXES)
        log.info("%s: files left out, because they are no images: %s (images are %s)", top, f"{num_others:,}", endings)
    return images
