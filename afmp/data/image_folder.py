"""Image folders: train/<class>/ and test/<class>/ (or val/<class>/), as in torchvision's ImageFolder.

Class names are the folders' names, sorted. Images are sorted by file name. Names that start with a dot and files
outside class folders are ignored.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from afmp.data.source_images import SourceImages
from afmp.errors import AfmpError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pillow chooses a decoder by content, not by name. Without this list it would also run its less common ones.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
DESKTOP_FILES = ("desktop.ini", "thumbs.db")
IMAGES_PER_TASK = 256


def read_image_folder(folder: Path, *, image_size: int) -> SourceImages:
    """Read every image of `folder` as RGB, `image_size` pixels wide and high.

    `to_rgb` and `fit_square` say how an image becomes RGB and square. Where test/ and val/ both exist, test/ is the
    test set and val/ is not read. Links are followed.

    Raises AfmpError naming the file or folder for: a missing split, classes that differ between the splits, a class
    without images, anything in a class folder that is not an image, a name that is not UTF-8, and images that are
    empty, damaged, animated or, as stored or scaled, above Pillow's decompression-bomb limit (about 89 million pixels).
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise AfmpError(f"dataset/path: {folder} is not a folder; it must contain train/<class>/ and test/<class>/.")
    train, test = folder / "train", folder / "test"
    if not test.is_dir():
        test = folder / "val"
    for split, wanted in ((train, "train/<class>/"), (test, "test/<class>/ or val/<class>/")):
        if not split.is_dir():
            raise AfmpError(f"{folder}: there is no {wanted}; an image folder contains train/ and test/ (or val/).")
    class_names = _class_names(train)
    if class_names != (test_names := _class_names(test)):
        odd = sorted({*class_names} ^ {*test_names})
        raise AfmpError(f"{folder}: {train.name}/ and {test.name}/ must have the same classes; in one only: {odd[:5]}.")
    train_images, train_labels = _read_split(train, class_names, image_size)
    test_images, test_labels = _read_split(test, class_names, image_size)
    return SourceImages(folder.resolve().name, train_images, train_labels, test_images, test_labels, class_names)


def _visible(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise AfmpError(f"{folder}: cannot be read ({error.strerror}); make it readable.") from None
    for entry in entries:
        # Linux allows any bytes in a name. A name that is not UTF-8 could be neither recorded nor printed.
        if re.search("[\ud800-\udfff]", entry.name):
            raise AfmpError(f"{folder}: contains {entry.name!a}, a name that is not UTF-8; rename it.")
    return sorted((entry for entry in entries if entry.name.lower() not in DESKTOP_FILES), key=lambda entry: entry.name)


def _class_names(split: Path) -> list[str]:
    names = [entry.name for entry in _visible(split) if entry.is_dir()]
    if not names:
        raise AfmpError(f"{split}: there are no class folders in it; images belong in {split}/<class>/.")
    return names


def _read_split(split: Path, class_names: list[str], image_size: int) -> tuple[np.ndarray, np.ndarray]:
    paths, labels = [], []
    for label, name in enumerate(class_names):
        members = _visible(split / name)
        for path in members:
            if path.is_symlink() and not path.exists():
                raise AfmpError(f"{path}: is a broken link; mend or remove it.")
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                raise AfmpError(
                    f"{path}: a class folder contains only images ({', '.join(SUFFIXES)}); convert or move it."
                )
        if not members:
            raise AfmpError(f"{split / name}: there are no images of this class; add some or remove the class.")
        paths += members
        labels += [label] * len(members)
    images = np.empty((len(paths), 3, image_size, image_size), np.uint8)

    def read(start: int) -> None:
        for index in range(start, min(start + IMAGES_PER_TASK, len(paths))):
            images[index] = np.asarray(read_image(paths[index], image_size=image_size)).transpose(2, 0, 1)

    # Threads are enough: Pillow decodes and resizes outside the interpreter lock.
    pool = ThreadPoolExecutor()
    try:
        list(pool.map(read, range(0, len(paths), IMAGES_PER_TASK)))
    finally:
        pool.shutdown(cancel_futures=True)
    return images, np.array(labels, np.int64)


def read_image(path: Path, *, image_size: int) -> Image.Image:
    """Read one image file as RGB, `image_size` wide and high. Raises AfmpError naming a file that it cannot read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check(image, path)
            _check_scaled(image, image_size, path)
            image.load()
            return fit_square(to_rgb(image), image_size)
    except (AfmpError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise AfmpError(_too_large(path)) from None
    except Exception as error:
        # Pillow's decoders raise a dozen exception types for a damaged file. The type tells a person nothing.
        empty = path.is_file() and path.stat().st_size == 0
        problem = "is an empty file" if empty else f"cannot be read as an image ({error})"
        raise AfmpError(f"{path}: {problem}; replace or remove it.") from None


def _check(image: Image.Image, path: Path) -> None:
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise AfmpError(_too_large(path))
    # MPO is a camera's JPEG with a preview after it. Its first image is the photograph.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise AfmpError(
            f"{path}: has {image.n_frames} frames; animated and multi-page images are refused; keep one frame."
        )


def _check_scaled(image: Image.Image, image_size: int, path: Path) -> None:
    # A very thin image is small as a file and becomes thousands of times larger when its shorter side is scaled up.
    short, long = sorted(image.size)
    if image_size * image_size * long / short > Image.MAX_IMAGE_PIXELS:
        raise AfmpError(
            f"{path}: is {image.width} x {image.height} pixels, too thin to scale its shorter side to {image_size}; "
            "cut or remove it."
        )


def _too_large(path: Path) -> str:
    return f"{path}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels, so it is refused unread; make it smaller."


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any still image to 8-bit RGB, with pixels as stored: a camera's rotation flag is not applied.

    Grey is repeated in all channels, a palette is looked up, and 16-bit grey is scaled by 255 / 65535. Transparent
    pixels become black, like the padding of random crops. Raises ValueError for 32-bit grey, whose range is unknown.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32-bit grey values have no fixed range; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layers = image.convert("RGBA")
        black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layers).convert("RGB")
    return image.convert("RGB")


def fit_square(image: Image.Image, image_size: int) -> Image.Image:
    """Scale the shorter side to `image_size` (bilinear, antialiased), then crop the centre square.

    An image that already has this size keeps its exact pixels.
    """
    if image.size == (image_size, image_size):
        return image
    scale = image_size / min(image.size)
    width, height = (max(image_size, round(side * scale)) for side in image.size)
    left, top = (width - image_size) // 2, (height - image_size) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + image_size, top + image_size))
