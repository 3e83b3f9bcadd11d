"""Trained models, ready to use: from a file of weights, or from a release that the package contains, by its name.

PyTorch is imported only when a model is built.
"""

from dataclasses import dataclass
from pathlib import Path

from afmp.errors import AfmpError, check_whole_number
from afmp.files import FOLDER, is_there, kind_of

RELEASES = Path(__file__).resolve().parent.parent / "releases"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class About:
    """What a file says of its weights.

    - semantics; run, seed, epoch and dataset_hash: the training that they are from, None if it was not of a study
    - class_names: in the order of the logits
    - image_size: side of the images, in pixels
    - mean, std: of each channel, red, green, blue, on the scale 0 ... 1; images are normalised by them
    """

    run: str | None
    semantics: str
    seed: int | None
    epoch: int | None
    dataset_hash: str | None
    class_names: tuple[str, ...]
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def prepare_image(self, image, *, image_size: int | None = None):
        """Return an image as the model reads it: a float32 tensor (3, image_size, image_size) on the CPU.

        image: the path of a file, or a PIL image, so that this is also a transform of torchvision.
        image_size: of a model that was built for another size than the file's.

        The image becomes RGB, as `afmp.data.image_file.to_rgb` says: transparent pixels become black, and a camera's
        rotation flag is not applied. Its shorter side is scaled to image_size by Pillow (bilinear, antialiased). Then
        the centre square is cropped and normalised by mean and std. `afmp predict` does the same. Raises AfmpError for
        an image that cannot be read, and for what is no image.
        """
        from PIL.Image import Image

        from afmp.model.prediction import prepare_image

        if image_size is not None:
            check_whole_number("image_size", image_size)
        if not isinstance(image, (str, Path, Image)):
            raise AfmpError(f"image is {type(image).__name__}: give the path of an image file, or a PIL image.")
        image = image if isinstance(image, Image) else Path(image)
        return prepare_image(self, image, image_size=image_size or self.image_size)


def load(path_or_name: Path | str, *, batch_size: int | None = None):
    """Return the trained model, `AFMP` or `Rival`, of a .safetensors or of a release that the package contains.

    path_or_name: a path, or the name of a release, which is that of its file without .safetensors.
    batch_size: of the training; only older weights of `notebook` need it, which do not say it.

    The model is on the CPU, in float32 and in evaluation mode. Its attribute `about` is an `About`. Logits are
    (B, classes) of images (B, 3, image_size, image_size); a model of timm has an axis of length 1 in front of both.
    Raises AfmpError as `afmp.model.weights.build_from_weights` does, for an unknown name, and for metadata that lack
    something of `About`.
    """
    from afmp.model.weights import build_from_weights, read_about

    path = weights_path(path_or_name)
    model = build_from_weights(path, batch_size=batch_size)
    model.about = about_of(read_about(path), path)
    return model


def release_path(name: Path | str) -> Path | None:
    """Return the file of the release of this name; None if there is no such release."""
    return RELEASES / f"{name}{SUFFIX}" if name in _names() else None


def _names() -> list[str]:
    return sorted(path.stem for path in RELEASES.glob(f"*{SUFFIX}"))


def weights_path(path_or_name: Path | str) -> Path:
    """Return the file of a path or of the name of a release.

    Raises AfmpError for an unknown name, for a folder, and for an image, which a person may give in the wrong order.
    """
    from afmp.data.image_file import SUFFIXES

    if released := release_path(path_or_name):
        return released
    path = Path(path_or_name)
    like_a_name = isinstance(path_or_name, str) and path.name == path_or_name and path.suffix != SUFFIX
    if like_a_name and not is_there(path):
        names = _names()
        found = f"the releases are {', '.join(names)}" if names else "this package contains no releases yet"
        raise AfmpError(f"{path_or_name!r} is no release: {found}; the path of a {SUFFIX} file is allowed too.")
    if path.suffix.lower() in SUFFIXES:
        raise AfmpError(f"{path}: an image, where weights belong; give the weights first, then the images.")
    if is_there(path) and kind_of(path) == FOLDER:
        raise AfmpError(f"{path}: is a folder, where a file of weights belongs; give the {SUFFIX} in it.")
    return path


def about_of(found: dict, path: Path | str) -> About:
    """Return the metadata of weights that describe a model. Raises AfmpError if something is missing or odd."""
    dataset = found.get("dataset", {})
    values = {key: found[key] for key in ("run", "seed", "epoch") if key in found}
    if "dataset" in found:
        values["dataset/hash"] = dataset.get("hash") if isinstance(dataset, dict) else None
    for key, kind, allowed in (
        ("run", str, "a name"),
        ("seed", int, "a whole number"),
        ("epoch", int, "a whole number"),
        ("dataset/hash", str, "a text"),
    ):
        if key in values and type(values[key]) is not kind:
            raise _lacking(path, key, values[key], allowed)
    for key in ("mean", "std"):
        numbers = found.get(key)
        known = isinstance(numbers, list) and len(numbers) == 3 and all(type(number) is float for number in numbers)
        # Also False for NaN, which JSON of Python can have.
        if not known or not all(0 <= number <= 1 for number in numbers) or (key == "std" and 0 in numbers):
            raise _lacking(path, key, numbers, f"three numbers between 0 and 1{', not 0' if key == 'std' else ''}")
    return About(
        **{key: values.get(key) for key in ("run", "seed", "epoch")},
        **{key: found[key] for key in ("semantics", "image_size")},
        **{key: tuple(found[key]) for key in ("class_names", "mean", "std")},
        dataset_hash=values.get("dataset/hash"),
    )


def _lacking(path: Path | str, key: str, value: object, allowed: str) -> AfmpError:
    from afmp.model.weights import ADVICE

    return AfmpError(f"{path}: in its metadata, about/{key} is {repr(value)[:80]}; allowed: {allowed}; {ADVICE}.")
