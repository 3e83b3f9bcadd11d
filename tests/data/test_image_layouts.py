"""Every way to store pixels: they are read as the format's specification says, or the file is refused by name."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from encoded_images import bmp, png, tiff
from PIL import Image

from afmp.data.image_file import read_image
from afmp.errors import AfmpError

GREY, RGB, PALETTE, CMYK, YCBCR, LAB = 1, 2, 3, 5, 6, 8  # photometric interpretations of TIFF; 0 is inverted grey
ALPHA, PREMULTIPLIED, UNSPECIFIED = 2, 1, 0  # extra samples of TIFF


def samples(bits: int, channels: int = 1) -> np.ndarray:
    values = np.random.default_rng(bits).integers(0, 2**bits, (8, 8, channels))
    values[0, :2] = [[0], [2**bits - 1]]
    return values


def eight_bits(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(np.broadcast_to(values * 255 / (2**bits - 1), (8, 8, 3)))


def pixels(folder: Path, content: bytes) -> np.ndarray:
    (folder / "x.png").write_bytes(content)
    return np.asarray(read_image(folder / "x.png", image_size=8)).astype(int)


def refusal(folder: Path, content: bytes) -> str:
    with pytest.raises(AfmpError, match=r"x\.png: cannot be read as an image") as caught:
        pixels(folder, content)
    return str(caught.value)


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_grey_png_of_each_depth_with_each_transparent_value(tmp_path, bits):
    values = samples(bits)
    assert (pixels(tmp_path, png(values, bits=bits, colour_type=0)) == eight_bits(values, bits)).all()
    for clear in (0, 2**bits - 1, int(values[3, 3, 0])):
        seen = pixels(tmp_path, png(values, bits=bits, colour_type=0, tRNS=struct.pack(">H", clear)))
        assert (seen == np.where(values == clear, 0, eight_bits(values, bits))).all()
        if 1 < bits < 16:  # the upper bits of the number do not count
            higher = struct.pack(">H", clear + 3 * 2**bits)
            assert (pixels(tmp_path, png(values, bits=bits, colour_type=0, tRNS=higher)) == seen).all()


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_png_of_each_depth(tmp_path, bits):
    values, colours = samples(bits), np.random.default_rng(1).integers(0, 256, (2**bits, 3), np.uint8)
    seen = pixels(tmp_path, png(values, bits=bits, colour_type=3, PLTE=colours.tobytes()))
    assert (seen == colours[values[..., 0]]).all()
    seen = pixels(tmp_path, png(values, bits=bits, colour_type=3, PLTE=colours.tobytes(), tRNS=b"\0"))
    assert (seen == np.where(values == 0, 0, colours[values[..., 0]])).all()
    short = png(values, bits=bits, colour_type=3, PLTE=colours[:1].tobytes())
    assert "of a palette of 1)" in refusal(tmp_path, short)
    assert "of a palette of 0" in refusal(tmp_path, png(values, bits=bits, colour_type=3))


@pytest.mark.promise("image-layouts")
def test_a_transparent_colour_of_a_png(tmp_path):
    values = samples(8, 3)
    clear = struct.pack(">HHH", *values[3, 3].tolist())
    seen = pixels(tmp_path, png(values, bits=8, colour_type=2, tRNS=clear))
    assert (seen == np.where((values == values[3, 3]).all(-1, keepdims=True), 0, values)).all() and not seen[3, 3].any()
    assert "transparent colour of 16 bits" in refusal(tmp_path, png(samples(16, 3), bits=16, colour_type=2, tRNS=clear))


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_that_are_read(tmp_path, order, compressed):
    options = {"order": order, "compressed": compressed}
    for bits in (1, 2, 4, 8):
        values, right = samples(bits), eight_bits(samples(bits), bits)
        assert (pixels(tmp_path, tiff(values, bits=bits, photometric=GREY, **options)) == right).all()
        assert (pixels(tmp_path, tiff(values, bits=bits, photometric=0, **options)) == 255 - right).all()
        palette = np.random.default_rng(2).integers(0, 65536, (3, 2**bits))
        content = tiff(values, bits=bits, photometric=PALETTE, tags={320: palette.ravel().tolist()}, **options)
        assert (pixels(tmp_path, content) == palette.T[values[..., 0]] // 256).all()
    deep = pixels(tmp_path, tiff(samples(16), bits=16, photometric=GREY, **options))
    assert (deep == eight_bits(samples(16), 16)).all()
    for bits in (8, 16):
        values = samples(bits, 4)
        right = {UNSPECIFIED: eight_bits(values[..., :3], bits)}
        right[ALPHA] = eight_bits(values[..., :3] * (values[..., 3:] / (2**bits - 1)), bits)
        for meaning, expected in right.items():
            content = tiff(values, bits=bits, photometric=RGB, tags={338: [meaning]}, **options)
            assert abs(pixels(tmp_path, content) - expected).max() <= (0 if bits == 8 else 2)
        content = tiff(values[..., :3], bits=bits, photometric=RGB, **options)
        assert abs(pixels(tmp_path, content) - right[UNSPECIFIED]).max() <= (0 if bits == 8 else 1)
    values = samples(8, 2)
    for meaning, factor in ((UNSPECIFIED, 1), (ALPHA, values[..., 1:] / 255)):
        content = tiff(values, bits=8, photometric=GREY, tags={338: [meaning]}, **options)
        assert (pixels(tmp_path, content) == eight_bits(values[..., :1] * factor, 8)).all()
    values[..., :1] = np.minimum(values[..., :1], values[..., 1:])
    content = tiff(values, bits=8, photometric=GREY, tags={338: [PREMULTIPLIED]}, **options)
    assert abs(pixels(tmp_path, content) - values[..., :1]).max() <= 1
    for separate in (False, True):
        content = tiff(samples(8, 3), bits=8, photometric=RGB, separate=separate, **options)
        assert (pixels(tmp_path, content) == samples(8, 3)).all()
        ink = samples(8, 4) / 255
        content = tiff(samples(8, 4), bits=8, photometric=CMYK, separate=separate, **options)
        assert abs(pixels(tmp_path, content) - 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])).max() <= 1


REFUSED_TIFFS = {
    "12 bits": {"bits": 12},
    "10 bits": {"bits": 10},
    "14 bits, white is 0": {"bits": 14, "photometric": 0},
    "16 bits, white is 0": {"bits": 16, "photometric": 0},
    "one plane, white is 0": {"photometric": 0, "separate": True},
    "one plane of 2 bits": {"bits": 2, "separate": True},
    "planes of 16 bits": {"bits": 16, "channels": 3, "photometric": RGB, "separate": True},
    "fourth sample of no meaning": {"channels": 4, "photometric": RGB},
    "signed": {"tags": {339: [2]}},
    "signed, 16 bits": {"bits": 16, "tags": {339: [2]}},
    "Lab": {"channels": 3, "photometric": LAB},
    "YCbCr without compression": {"channels": 3, "photometric": YCBCR},
    "other inks": {"channels": 4, "photometric": CMYK, "tags": {332: [2]}},
    "12 bits in 16": {"bits": 16, "tags": {341: [4095]}},
    "10 bits in 16, by statistics": {"bits": 16, "tags": {281: [1023]}},
    "does not start at black": {"tags": {340: [16]}},
    "turned": {"tags": {274: [6]}},
    "bits from right to left": {"bits": 4, "tags": {266: [2]}},
    "a response curve": {"tags": {291: [1] * 256}},
    "a preview": {"tags": {254: [1]}},
    "a preview, by the older tag": {"tags": {255: [2]}},
    "nothing says which value is white": {"tags": {262: None}},
}


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("case", REFUSED_TIFFS)
def test_tiffs_that_are_refused(tmp_path, case, order, compressed):
    options = {"bits": 8, "photometric": GREY, "channels": 1} | REFUSED_TIFFS[case]
    values = samples(options["bits"], options.pop("channels"))
    refusal(tmp_path, tiff(values, order=order, compressed=compressed, **options))


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_bmp_with_any_palette_is_right_or_refused(tmp_path, bits):
    grey = np.arange(2**bits)[:, None].repeat(3, axis=1)
    black_and_white = np.array([[0] * 3, [255] * 3])
    palettes = [np.random.default_rng(3).integers(0, 256, (2**bits, 3)), grey, black_and_white, black_and_white[::-1]]
    read = 0
    for palette in palettes:
        values = samples(bits)[..., 0] % len(palette)
        content = bmp(values, bits=bits, palette=palette)
        try:
            seen = pixels(tmp_path, content)
        except AfmpError as error:
            assert "too few colours for its bits per pixel" in str(error)
        else:
            read += 1
            assert (seen == palette[values]).all()
    assert read >= 2


def cmyk_without_adobe() -> bytes:
    stream = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(stream, "JPEG")
    content = stream.getvalue()
    start = content.index(b"\xff\xee")
    return content[:start] + content[start + 2 + int.from_bytes(content[start + 2 : start + 4], "big") :]


def part_of_a_gif() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), 1).save(stream, "GIF")
    content = bytearray(stream.getvalue())
    content[6:10] = struct.pack("<HH", 8, 8)  # the screen is larger than its only frame
    return bytes(content)


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize(
    ("make", "reason"),
    [(cmyk_without_adobe, "tells whether it is inverted"), (part_of_a_gif, "a part of it is in no frame")],
)
def test_what_a_file_does_not_say_is_not_guessed(tmp_path, make, reason):
    assert reason in refusal(tmp_path, make())


@pytest.mark.promise("image-layouts")
@pytest.mark.parametrize("kind", ["EPS", "JPEG2000", "PPM", "ICO", "TGA", "DDS", "PCX", "ICNS", "PDF"])
def test_formats_that_are_not_listed_are_refused_whatever_the_name_says(tmp_path, kind):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 100, 50)).save(stream, kind)
    assert "no BMP, GIF, JPEG, PNG, TIFF, WEBP of a known kind" in refusal(tmp_path, stream.getvalue())
