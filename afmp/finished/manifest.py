"""The manifest of an archive: the size and the hash of every file in it.

It does not import what draws, because the workflow looks for manifests whenever it starts.
"""

import hashlib
from pathlib import Path

from afmp.errors import AfmpError
from afmp.records import read_manifest

MANIFEST = "MANIFEST.json"


def manifest_of(archive: Path | str) -> Path:
    """Return the path of an archive's manifest. Raises AfmpError if the folder is no archive."""
    manifest = Path(archive, MANIFEST)
    if not manifest.is_file():
        raise AfmpError(
            f"{archive}: no archive there, seen from {Path.cwd()}: it has no {MANIFEST}; `snakemake archive` makes one."
        )
    return manifest


def entry(path: Path) -> dict:
    """Return the manifest's entry of one file."""
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def checked_paths(archive: Path) -> list[str]:
    """Return the paths of all files that the manifest names.

    Raises AfmpError naming the first file that is missing, differs from its entry, or is outside of the archive.
    """
    entries = read_manifest(manifest_of(archive))["files"]
    for path, expected in entries.items():
        file = archive / path
        if not file.resolve().is_relative_to(archive.resolve()):
            raise AfmpError(f"{file}: outside of the archive, but {MANIFEST} names it; restore the archive.")
        if not file.is_file():
            raise AfmpError(f"{file}: missing, but {MANIFEST} names it; restore the archive.")
        if entry(file) != expected:
            raise AfmpError(f"{file}: not the file that {MANIFEST} names, its sha256 differs; restore the archive.")
    return list(entries)
