"""A small image folder with awkward names."""

from pathlib import Path

from PIL import Image


def plain_colour(red: int, green: int = 0, blue: int = 0, size: tuple[int, int] = (8, 8)) -> Image.Image:
    """Return an image of one colour."""
    return Image.new("RGB", size, (red, green, blue))


def make_image_folder(parent: Path) -> Path:
    """Make a folder of two classes, one with a space and non-ASCII letters. The red value tells the images apart."""
    root = parent / "bilder & mehr"
    for split, start in (("train", 10), ("test", 100)):
        for number, name in enumerate(["zèbre 斑马", "Apfel"]):
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                image = plain_colour(start + 10 * number + index)
                image.save(root / split / name / f"bild {index} ü.{('png', 'bmp', 'webp')[index]}", lossless=True)
    (root / "train" / "Apfel" / ".hidden").write_text("ignored")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "Apfel" / "Thumbs.db").write_text("ignored")
    return root
