"""Image files: one still image becomes square RGB as its own tags say, or is refused by name."""

import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from afmp.data.image_layouts import check_layout, layout
from afmp.errors import AfmpError
from afmp.files import open_plain

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pillow chooses a decoder by content, not by name. Without this list it would also run another program for EPS,
# and decoders whose pixels were not compared with what a specification says (`image_layouts`).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_FILE_BYTES = 1_000_000_000  # above the largest image that is not too large, stored with 16 bits per channel
# A decoded image takes up to 20 bytes per pixel. Larger ones than this are decoded one at a time.
LARGE_PIXELS = 10_000_000
_one_large_image = threading.Lock()
# The grey that a PNG declares transparent is a number of 2 or 4 bits. Pillow spreads only the pixels over 0 ... 255.
GREY_STEPS = {"L;2": 85, "L;4": 17, "L": 1}
ORIENTATION = 0x0112  # tag of EXIF; 1 is as stored
ROTATION_FLAG = "images with a camera's rotation flag, which is not applied"
TRANSPARENT = "images with transparent pixels, which become black"


def read_image(path: Path, *, image_size: int, notes: list[tuple[str, Path]] | None = None) -> Image.Image:
    """Read one image file as RGB, `image_size` wide and high.

    notes: gets (ROTATION_FLAG, path) or (TRANSPARENT, path) for an image that other programs show otherwise.

    Raises AfmpError naming a file that is no plain file, no image, damaged, animated, too large, or stored in a way
    that `image_layouts` does not list.
    """
    path = Path(path)
    try:
        with open_plain(path, max_bytes=MAX_FILE_BYTES) as file, Image.open(file, formats=FORMATS) as image:
            _check(image, path)
            _check_scaled(image, image_size, path)
            check_layout(image)
            with _one_large_image if image.width * image.height > LARGE_PIXELS else nullcontext():
                _load(image)
                if notes is not None:
                    notes.extend([(kind, path) for kind in _shown_otherwise(image)])
                return fit_square(to_rgb(image), image_size)
    except AfmpError:
        raise
    except MemoryError:
        raise AfmpError(f"{path}: needs more memory than there is; make it smaller.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise AfmpError(_too_large(path)) from None
    except Exception as error:
        # Pillow's decoders raise a dozen exception types for a damaged file. The type tells a person nothing.
        if isinstance(error, UnidentifiedImageError):
            error = f"no {', '.join(FORMATS)} of a known kind; an image of another format can be saved as PNG"
        problem = f"cannot be read as an image ({error})" if path.stat().st_size else "is an empty file"
        raise AfmpError(f"{path}: {problem}; replace or remove it.") from None


def _check(image: Image.Image, path: Path) -> None:
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise AfmpError(_too_large(path))
    # MPO is a camera's JPEG with a preview after it. Its first image is the photograph. Frames are not counted, because
    # each would have to be found, and a TIFF may have hundreds of thousands.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise AfmpError(f"{path}: has more than one frame; animated and multi-page images are refused; keep one frame.")


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


def _load(image: Image.Image) -> None:
    """Decode the pixels. Raises ValueError for one that is in no palette."""
    step, num_colours = GREY_STEPS.get(layout(image)), _palette_size(image)
    image.load()
    if num_colours is not None and (largest := image.getextrema()[1]) >= num_colours:
        raise ValueError(f"it uses colour {largest} of a palette of {num_colours}")
    if step is not None and "transparency" in image.info:
        # The number has 16 bits, of which the format counts only as many as a pixel has.
        image.info["transparency"] = image.info["transparency"] * step % (255 + step)


def _palette_size(image: Image.Image) -> int | None:
    """Return the number of colours in the palette of an image that is not decoded yet; None without a palette."""
    if image.mode != "P":
        return None
    palette = image.palette
    return len(palette.palette) // len((palette.rawmode or palette.mode).partition(";")[0]) if palette else 0


def _shown_otherwise(image: Image.Image) -> Iterator[str]:
    """Yield what other programs do with a decoded image, and this one does not."""
    with suppress(Exception):  # EXIF that is damaged, which an image does not need
        if image.getexif().get(ORIENTATION, 1) != 1:
            yield ROTATION_FLAG
    # Most images with an alpha channel are opaque.
    opaque = "A" in image.getbands() and image.getchannel("A").getextrema()[0] == 255
    if image.has_transparency_data and not opaque:
        yield TRANSPARENT


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a still image to 8-bit RGB, with pixels as stored: a camera's rotation flag is not applied.

    Grey is repeated in all channels, a palette is looked up, 16-bit grey is scaled by 255 / 65535, and 16-bit colour
    keeps its upper 8 bits. Transparent pixels become black, like the padding of random crops. Raises ValueError for
    other modes, such as 32-bit grey, whose range is unknown.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.uint32)
        grey = (values * 255 + 32767) // 65535
        grey[values == image.info.get("transparency", -1)] = 0
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layers = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layers).convert("RGB")
    if image.mode not in ("1", "L", "P", "RGB", "CMYK"):
        raise ValueError(f"values of mode {image.mode} have no fixed range; save it with 8 or 16 bits")
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
