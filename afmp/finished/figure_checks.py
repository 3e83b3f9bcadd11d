"""Checks of figures: each is drawn again from the records, and must show the same."""

import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from afmp.errors import AfmpError
from afmp.figures.catalogue import Drawing
from afmp.files import open_plain, read_plain
from afmp.finished.check import Check, NotCheckedError, guarded, not_there
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.study_files import study_drawings
from afmp.finished.study_manifest import another_version
from afmp.finished.text_files import different_text
from afmp.machine.scratch import scratch_folder

MAX_FIGURE_BYTES = 50_000_000
# Other processors round the last bit of a number otherwise, and its line then covers a pixel by 1/256 more or less.
LEVELS = 2  # of 255
POINTS = 1e-4  # in a PDF
NUMBER = re.compile(rb"-?\d+\.?\d*|-?\.\d+")


def figure_checks(finished: FinishedStudy, drawn_with: dict[str, str]) -> Iterator[Check]:
    """Yield one check per figure. drawn_with: the versions that the study's manifest records."""
    for drawing in study_drawings(finished.study):
        where = finished.results / drawing.files[0]
        yield Check(
            f"{drawing.path}, drawn again",
            lambda drawing=drawing: _figure_faults(finished, drawing, drawn_with),
            where,
        )


def _figure_faults(finished: FinishedStudy, drawing: Drawing, drawn_with: dict[str, str]) -> Iterator[str]:
    files = [finished.results / file for file in drawing.files]
    broken = [path for path in drawing.sources if finished.faults[path]]
    if drawing.dataset is not None and finished.data is None:
        broken.append(drawing.dataset)
    if broken:
        yield from not_there(files)
        raise NotCheckedError(f"{finished.results / broken[0]} failed")
    with scratch_folder() as scratch:
        drawing.write_from(finished.contents, lambda index: finished.data.test_images[index].numpy(), folder=scratch)
        another = another_version("matplotlib", drawn_with)
        for file, path in zip(drawing.files, files, strict=True):
            compare = {".png": _different_pixels, ".pdf": _different_pages, ".rst": different_text}[path.suffix]
            if another and path.suffix != ".rst":
                yield from not_there([path])
            else:
                yield from guarded(lambda path=path, file=file, compare=compare: compare(path, scratch / file), path)
        if another:
            raise NotCheckedError(f"drawn by {another}; its caption is as computed again")


def _different_pixels(found: Path, drawn: Path) -> Iterator[str]:
    if read_plain(found, max_bytes=MAX_FIGURE_BYTES) == drawn.read_bytes():
        return
    with Image.open(drawn) as image:
        expected = np.asarray(image.convert("RGBA"), dtype=np.int16)
        size = image.size
    with open_plain(found, max_bytes=MAX_FIGURE_BYTES) as file, warnings.catch_warnings():
        warnings.simplefilter("error")  # a picture that would fill the memory is only warned of
        try:
            with Image.open(file, formats=["PNG"]) as image:
                if image.size != size:
                    yield f"{found}: has {image.width} x {image.height} px, drawn again {size[0]} x {size[1]}"
                    return
                pixels = np.asarray(image.convert("RGBA"), dtype=np.int16)
        except AfmpError:
            raise
        except Exception:  # Pillow raises many kinds for a file that is no picture
            yield f"{found}: is no PNG, or a damaged one"
            return
    wrong = (np.abs(pixels - expected) > LEVELS).any(axis=2)
    if wrong.any():
        yield f"{found}: {int(wrong.sum()):,} pixels are not those of the figure drawn again"


def _different_pages(found: Path, drawn: Path) -> Iterator[str]:
    content, expected = read_plain(found, max_bytes=MAX_FIGURE_BYTES), drawn.read_bytes()
    if content != expected and not _same_tokens(_tokens(content), _tokens(expected)):
        yield f"{found}: is not the figure drawn again"


def _tokens(pdf: bytes) -> list[bytes]:
    """Return the words and numbers of a PDF, its streams unpacked, without what depends on how they were packed."""
    words: list[bytes] = []
    end = 0
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        words += re.sub(rb"/Length \d+", b"", pdf[end : match.start()]).split()
        unpacking = zlib.decompressobj()
        try:
            words += unpacking.decompress(match[1], MAX_FIGURE_BYTES).split()
        except zlib.error:
            words.append(match[1])
        end = match.end()
    # The table at the end says where each object starts.
    return words + pdf[end:].partition(b"xref")[0].split()


def _same_tokens(found: list[bytes], expected: list[bytes]) -> bool:
    if len(found) != len(expected):
        return False
    return all(
        one == other
        or bool(NUMBER.fullmatch(one) and NUMBER.fullmatch(other) and abs(float(one) - float(other)) <= POINTS)
        for one, other in zip(found, expected, strict=True)
    )
