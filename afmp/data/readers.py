"""The dataset sources. To add one, write its reader and add a line to READERS and to the enum of `dataset/source` in
schemas/config.schema.yaml."""

from pathlib import Path

from afmp.data.cifar import ARCHIVES, read_cifar
from afmp.data.digits import read_digits
from afmp.data.download import fetch_into
from afmp.data.image_folder import read_image_folder
from afmp.data.source_images import SourceImages
from afmp.errors import AfmpError


def _read_cifar(config: dict, download_folder: Path) -> SourceImages:
    archive = ARCHIVES[config["source"]]
    return read_cifar(fetch_into(download_folder, archive), source=config["source"], archive=archive)


def _read_folder(config: dict, download_folder: Path) -> SourceImages:
    if not config.get("path"):
        raise AfmpError(
            "dataset/path: found nothing; source folder needs the folder that contains train/ and test/, or classes."
        )
    return read_image_folder(Path(config["path"]), image_size=config["image_size"])


def _read_digits(config: dict, download_folder: Path) -> SourceImages:
    return read_digits()


# By dataset/source. A reader gets the dataset section of the configuration and the folder for downloads.
READERS = {
    "cifar100": _read_cifar,
    "cifar10": _read_cifar,
    "folder": _read_folder,
    "digits": _read_digits,
}
