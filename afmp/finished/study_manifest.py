"""The manifest of a finished study, manifest.json: the hash of every file, and what drew the figures.

The workflow writes it last. What was changed since then is not what the study made.
"""

from functools import cache
from importlib import metadata
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import sha256_of
from afmp.finished.study_files import study_files
from afmp.records import read_manifest, write_manifest
from afmp.study.paths import MANIFEST_FILE
from afmp.study.study import Study

# Another version of these draws other pixels, or writes another page, from the same numbers.
DRAWING_PACKAGES = ("matplotlib", "pandas")


def write_study_manifest(study: Study, results: Path | str) -> None:
    """Write the manifest of the finished study in the folder `results`. Raises AfmpError if a file is missing."""
    files = {path: file_entry(Path(results, path)) for path in study_files(study)}
    drawn_with = {package: _version(package) for package in DRAWING_PACKAGES}
    content = {"format_version": 1, "drawn_with": drawn_with, "files": files}
    write_manifest(Path(results, MANIFEST_FILE), content)


def read_drawn_with(results: Path) -> dict[str, str]:
    """Return the versions that drew the figures of a study; none if its manifest cannot be read."""
    try:
        return read_manifest(results / MANIFEST_FILE).get("drawn_with", {})
    except AfmpError:
        return {}


@cache  # looked up once, and not for every figure
def _version(package: str) -> str:
    return metadata.version(package)


def another_version(package: str, drawn_with: dict[str, str]) -> str | None:
    """Return the version of a package that drew a study, in words, if it is not the present one."""
    here = _version(package)
    recorded = drawn_with.get(package, here)
    return None if recorded == here else f"{package} {recorded}, and here is {here}"


def file_entry(path: Path) -> dict:
    """Return the manifest's entry of one file."""
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}
