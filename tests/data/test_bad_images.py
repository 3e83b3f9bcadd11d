"""Unusual image files and folders: each is read as documented, or refused by name before it can do harm."""

import logging
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from encoded_images import png as encoded_png
from encoded_images import tiff
from PIL import Image

from afmp.data.dataset import load_dataset
from afmp.data.image_file import read_image
from afmp.data.image_folder import read_image_folder
from afmp.data.preparation import prepare_dataset
from afmp.errors import AfmpError

RED = (250, 10, 20)


def noise(size: int = 48, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of two classes, with one image per class in train and in test."""
    root = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            noise().save(root / split / name / "0.png")
    return root


def prepare(root: Path, file: Path, *, image_size: int = 8):
    prepare_dataset(
        {"source": "folder", "path": str(root), "image_size": image_size}, file, download_folder=file.parent
    )
    return load_dataset(file)


def png(width: int, height: int, *, bits: int, colour_type: int, rows: bytes) -> bytes:
    """Return a PNG file of a kind that Pillow reads but cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def deep_rows(*channels: int) -> bytes:
    """Return eight rows of eight 16-bit pixels, each row after its filter byte."""
    return (b"\0" + struct.pack(f">{len(channels)}H", *channels) * 8) * 8


@pytest.mark.parametrize(
    ("colour_type", "pixel", "expected"),
    [
        (0, (51400,), (200, 200, 200)),  # 51400 = 200 * 257
        (2, (51400, 25700, 257), (200, 100, 1)),
        (4, (51400, 65535), (200, 200, 200)),
        (4, (51400, 0), (0, 0, 0)),
        (6, (51400, 25700, 257, 65535), (200, 100, 1)),
        (6, (51400, 25700, 257, 0), (0, 0, 0)),
    ],
)
def test_sixteen_bits_per_channel_become_eight(tmp_path, colour_type, pixel, expected):
    (tmp_path / "deep.png").write_bytes(png(8, 8, bits=16, colour_type=colour_type, rows=deep_rows(*pixel)))
    assert (np.asarray(read_image(tmp_path / "deep.png", image_size=8)) == expected).all()


@pytest.mark.promise("print-colours-and-rotation")
def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    pixel = np.asarray(read_image(tmp_path / "print.jpg", image_size=8))[4, 4]
    assert pixel[0] > 245 and pixel[1] < 10 and pixel[2] < 10


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_an_animated_image_is_refused_and_a_single_frame_is_not(folder, tmp_path, ending):
    path = folder / "train" / "dog" / f"moving.{ending}"
    noise().save(path, save_all=True, append_images=[noise(seed=1)])
    with pytest.raises(AfmpError, match=rf"moving\.{ending}: has more than one frame"):
        prepare(folder, tmp_path / "data.safetensors")
    assert not (tmp_path / "data.safetensors").exists()
    noise().save(path)
    assert len(prepare(folder, tmp_path / "data.safetensors").train_images) == 3


@pytest.mark.promise("refused-image-file")
@pytest.mark.parametrize("ending", ["bmp", "gif", "jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.6])
def test_a_truncated_image_is_refused(folder, tmp_path, ending, part):
    path = folder / "test" / "cat" / f"cut.{ending}"
    noise().save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(AfmpError, match=rf"cut\.{ending}: (is an empty file|cannot be read as an image)"):
        prepare(folder, tmp_path / "data.safetensors")


@pytest.mark.promise("refused-image-file")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(9500, 9500), (30_000, 30_000), (1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(folder, tmp_path, monkeypatch, width, height):
    (folder / "train" / "cat" / "bomb.png").write_bytes(png(width, height, bits=1, colour_type=0, rows=b""))
    decoded = []
    monkeypatch.setattr(Image.Image, "load", lambda image: decoded.append(image))
    with pytest.raises(AfmpError, match=r"bomb\.png: has more than 89,478,485 pixels, so it is refused unread"):
        read_image(folder / "train" / "cat" / "bomb.png", image_size=8)
    assert not decoded
    monkeypatch.undo()
    with pytest.raises(AfmpError, match=r"bomb\.png: has more"):
        prepare(folder, tmp_path / "data.safetensors")


@pytest.mark.promise("refused-image-file")
@pytest.mark.timeout(20)
def test_a_tiff_of_300_000_pages_is_refused_without_reading_them(tmp_path):
    """Pillow follows every page to count them, and looks each up among those before."""
    content = tiff(np.zeros((8, 8, 1), np.int64), bits=8, photometric=1)
    start = len(content)
    pages = b"".join(struct.pack("<HI", 0, start + 6 * (page + 1)) for page in range(300_000))
    (tmp_path / "pages.tif").write_bytes(content[:-4] + struct.pack("<I", start) + pages + bytes(6))
    with pytest.raises(AfmpError, match=r"pages\.tif: has more than one frame"):
        read_image(tmp_path / "pages.tif", image_size=8)


@pytest.mark.promise("refused-image-file")
@pytest.mark.parametrize("chunk", ["zTXt", "iTXt", "iCCP", "tEXt"])
def test_a_bomb_in_the_texts_of_an_image_is_refused(tmp_path, chunk):
    values, bomb = np.zeros((8, 8, 1), np.int64), zlib.compress(bytes(100_000_000))
    head = {"zTXt": b"a\0\0", "iTXt": b"a\0\1\0\0\0", "iCCP": b"a\0\0", "tEXt": b"a\0"}[chunk]
    content = encoded_png(
        values, bits=8, colour_type=0, **{chunk: head + (bytes(70_000_000) if chunk == "tEXt" else bomb)}
    )
    (tmp_path / "bomb.png").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(AfmpError, match=r"bomb\.png: cannot be read as an image \((Decompressed|Too much memory)"):
        read_image(tmp_path / "bomb.png", image_size=8)
    assert tracemalloc.get_traced_memory()[1] < 300_000_000
    tracemalloc.stop()


@pytest.mark.promise("refused-image-file")
def test_a_very_thin_image_is_refused_before_it_is_scaled_up(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "resize", lambda *_: pytest.fail("scaled"))
    for size in ((60_000, 1), (1, 60_000)):
        Image.new("L", size).save(tmp_path / "hair.png")
        with pytest.raises(AfmpError, match=r"hair\.png: is .* pixels, too thin to scale its shorter side to 224"):
            read_image(tmp_path / "hair.png", image_size=224)


@pytest.mark.promise("print-colours-and-rotation")
def test_a_rotation_flag_of_a_camera_is_not_applied(tmp_path):
    image = noise(8)
    turned = image.getexif()
    turned[0x0112] = 6  # orientation: rotate by a quarter to show
    image.save(tmp_path / "camera.png", exif=turned)
    assert Image.open(tmp_path / "camera.png").getexif()[0x0112] == 6
    assert np.array_equal(read_image(tmp_path / "camera.png", image_size=8), image)


@pytest.mark.promise("print-colours-and-rotation")
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_images_that_other_programs_show_otherwise_are_counted(folder, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "afmp")
    read_image_folder(folder, image_size=8)
    assert not caplog.messages
    image = noise(8)
    image.getexif()[0x0112] = 8
    for split, name in (("train", "b.jpg"), ("train", "a.webp"), ("test", "a.jpg")):
        image.save(folder / split / "dog" / name, exif=image.getexif())
    damaged = noise(8)
    damaged.save(folder / "train/dog/damaged.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    for name, alpha in (("opaque", 255), ("glass", 254)):
        layers = noise(8).convert("RGBA")
        layers.putpixel((3, 4), (1, 2, 3, alpha))
        layers.save(folder / f"train/cat/{name}.png")
    noise(8).save(folder / "train/cat/key.png", transparency=(1, 2, 3))
    read_image_folder(folder, image_size=8)
    assert caplog.messages == [
        f"images with a camera's rotation flag, which is not applied: 3, such as {folder}/test/dog/a.jpg",
        f"images with transparent pixels, which become black: 2, such as {folder}/train/cat/glass.png",
    ]


@pytest.mark.promise("refused-image-file")
def test_links_are_followed_and_a_broken_one_is_refused(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (8, 8), RED).save(tmp_path / "elsewhere" / "red.png")
    (folder / "train" / "cat" / "red.png").symlink_to(tmp_path / "elsewhere" / "red.png")
    for split in ("train", "test"):
        (folder / split / "ant").symlink_to(tmp_path / "elsewhere")
    data = prepare(folder, tmp_path / "data.safetensors")
    assert data.class_names == ("ant", "cat", "dog") and data.train_labels.tolist() == [0, 1, 1, 2]
    assert tuple(data.train_images[0, :, 0, 0].tolist()) == tuple(data.train_images[2, :, 0, 0].tolist()) == RED
    (tmp_path / "elsewhere" / "red.png").rename(tmp_path / "gone.png")
    with pytest.raises(AfmpError, match=r"red\.png: is a broken link|elsewhere|ant: there are no images"):
        prepare(folder, tmp_path / "data.safetensors")
    (folder / "train" / "cat" / "red.png").unlink()
    (folder / "train" / "dog" / "loop.png").symlink_to(folder / "train" / "dog" / "loop.png")
    noise().save(tmp_path / "elsewhere" / "0.png")
    with pytest.raises(AfmpError, match=r"loop\.png: is a broken link"):
        prepare(folder, tmp_path / "data.safetensors")


WRONG_ENTRIES = {
    "folder like an image": (lambda place: (place / "x.png").mkdir(), r"x\.png: a class folder contains only images"),
    "pipe": (lambda place: os.mkfifo(place / "pipe.png"), r"pipe\.png: a class folder contains only images"),
    "text": (
        lambda place: (place / "läbels 1.csv").write_text("a"),
        r"läbels 1\.csv: a class folder contains only images",
    ),
    "vector": (lambda place: (place / "x.png").write_text("<svg/>"), r"x\.png: cannot be read as an image"),
    "PDF": (lambda place: (place / "x.tif").write_bytes(b"%PDF-1.7\n"), r"x\.tif: cannot be read as an image"),
    "name that is no text": (
        lambda place: (Path(os.fsdecode(os.fsencode(place) + b"/\xff.png"))).write_bytes(b"x"),
        r"dog: contains '\\udcff\.png', a name that is not UTF-8",
    ),
}


@pytest.mark.promise("refused-image-file")
@pytest.mark.parametrize("entry", WRONG_ENTRIES)
def test_an_entry_that_is_no_image_is_refused_by_name(folder, tmp_path, entry):
    make, message = WRONG_ENTRIES[entry]
    make(folder / "train" / "dog")
    with pytest.raises(AfmpError, match=message) as caught:
        prepare(folder, tmp_path / "data.safetensors")
    str(caught.value).encode()


def test_hidden_entries_and_desktop_files_are_ignored(folder):
    for name in (".DS_Store", "._0.png", "Thumbs.db", "desktop.ini"):
        (folder / "train" / "dog" / name).write_bytes(b"no image")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "train" / "read me.txt").write_text("next to the classes")
    (folder / "LICENSE").write_text("next to the splits")
    assert len(read_image_folder(folder, image_size=8).train_images) == 2


def test_a_class_in_one_split_only_or_without_images_is_named(folder):
    (folder / "train" / "émeu").mkdir()
    with pytest.raises(AfmpError, match=r"train/ and test/ must have the same classes; in one only: \['émeu'\]"):
        read_image_folder(folder, image_size=8)
    (folder / "test" / "émeu").mkdir()
    with pytest.raises(AfmpError, match=r"train/émeu: there are no images of this class"):
        read_image_folder(folder, image_size=8)
