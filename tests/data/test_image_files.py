"""Image files: every colour mode and size becomes a square RGB image; damaged files are refused."""

import numpy as np
import pytest
from image_folders import plain_colour
from PIL import Image

from afmp.data.image_file import fit_square, read_image, to_rgb
from afmp.errors import AfmpError


@pytest.mark.promise("refused-image")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_animated_and_huge_images_are_refused_by_name(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    noise.save(tmp_path / "moving.gif", save_all=True, append_images=[plain_colour(1, size=(64, 64))])
    noise.save(tmp_path / "pages.tif", save_all=True, append_images=[plain_colour(1, size=(64, 64))])
    Image.new("1", (9500, 9500)).save(tmp_path / "bomb.png")
    Image.new("1", (14000, 14000)).save(tmp_path / "worse.png")
    Image.new("F", (8, 8)).save(tmp_path / "float.tif")
    for name, message in {
        "cut.png": "cannot be read as an image",
        "moving.gif": "has more than one frame",
        "pages.tif": "has more than one frame",
        "bomb.png": "refused unread",
        "worse.png": "refused unread",
        "float.tif": "no fixed range",
        "absent.png": "no such file",
    }.items():
        with pytest.raises(AfmpError, match=f"{name}.*{message}"):
            read_image(tmp_path / name, image_size=8)


@pytest.mark.promise("image-to-rgb")
def test_every_colour_mode_becomes_rgb(tmp_path):
    palette = plain_colour(200, 100, 50).quantize(4)
    seen = Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    half = Image.new("RGBA", (8, 8), (200, 100, 50, 128))
    hidden = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    deep = Image.fromarray(np.full((8, 8), 51400, np.uint16))  # 200 * 257
    cases = {
        "grey.png": (Image.new("L", (8, 8), 200), (200, 200, 200)),
        "grey_alpha.png": (Image.new("LA", (8, 8), (200, 0)), (0, 0, 0)),
        "bilevel.png": (Image.new("1", (8, 8), 1), (255, 255, 255)),
        "palette.png": (palette, (200, 100, 50)),
        "seen.png": (seen, (200, 100, 50)),
        "half.png": (half, (100, 50, 25)),
        "hidden.webp": (hidden, (0, 0, 0)),
        "deep.png": (deep, (200, 200, 200)),
        "deep.tif": (deep, (200, 200, 200)),
        "print.tif": (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), (0, 0, 0)),
    }
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name, lossless=True)
        pixels = np.asarray(read_image(tmp_path / name, image_size=8))
        assert pixels.shape == (8, 8, 3) and (pixels == expected).all(), name
    palette.save(tmp_path / "clear.png", transparency=int(np.asarray(palette)[0, 0]))
    assert not np.asarray(read_image(tmp_path / "clear.png", image_size=8)).any()
    assert (
        np.asarray(to_rgb(Image.fromarray(np.array([[0, 65535]], np.uint16)))).ravel().tolist() == [0] * 3 + [255] * 3
    )


def test_other_sizes_are_scaled_by_the_shorter_side_and_cropped_at_the_centre():
    stripes = Image.new("RGB", (48, 16), (255, 0, 0))
    stripes.paste((0, 255, 0), (16, 0, 32, 16))
    assert (np.asarray(fit_square(stripes, 8))[:, 1:7] == (0, 255, 0)).all()
    assert fit_square(stripes.rotate(90, expand=True), 32).size == (32, 32)
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    assert abs(np.asarray(fit_square(board, 16)).astype(int) - 128).max() < 8  # antialiased: grey, not black or white
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    assert np.array_equal(fit_square(noise, 8), noise)
