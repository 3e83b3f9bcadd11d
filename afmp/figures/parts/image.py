"""The test image below a figure: from a prepared dataset, or from the PNG of an archive by whomever."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from afmp.errors import AfmpError
from afmp.files import MissingFileError, is_there, read_plain
from afmp.study.paths import image_file
from afmp.tensors import read_row

MAX_SIDE = 4096  # the largest image_size of a study
MAX_PNG_BYTES = 64_000_000


def decode_image(content: bytes, *, side: int | None = None, where: Path | str) -> np.ndarray:
    """Return the pixels of a square PNG in RGB, uint8 (3, H, W).

    Raises AfmpError for another format or mode, for another `side` if it is given, and for one above MAX_SIDE, before
    any pixel is decoded.
    """
    try:
        with warnings.catch_warnings(action="error"), Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            allowed = image.size == (side, side) if side else max(image.size) <= MAX_SIDE
            if allowed and image.mode == "RGB":
                return np.asarray(image).transpose(2, 0, 1)
            found = f"a PNG of {image.width} x {image.height} px in mode {image.mode}"
    # Pillow raises all of these for a PNG that is damaged or made to fill the memory.
    except (OSError, SyntaxError, ValueError, Warning, Image.DecompressionBombError, struct.error, zlib.error) as error:
        raise AfmpError(f"{where}: not a PNG ({error}); restore the file.") from None
    raise AfmpError(f"{where}: {found}; allowed is one of {side or f'at most {MAX_SIDE}'} px each way in RGB.")


def read_test_image(source: Path, dataset: str, index: int) -> np.ndarray:
    """Return a test image, uint8 (3, H, W): from the PNG of an archive, else from the prepared dataset."""
    archived = source / image_file(index)
    if is_there(archived):
        return decode_image(read_plain(archived, max_bytes=MAX_PNG_BYTES), where=archived)
    advice = "delete the file if it exists, and prepare the dataset"
    try:
        return read_row(source / dataset, "test_images", index, advice=advice)
    except MissingFileError as missing:
        raise AfmpError(f"{source / dataset}: test image {index} cannot be read ({missing}); {advice}.") from None
