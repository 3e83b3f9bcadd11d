"""A small archived study of made-up numbers, and changes of it whose manifest is right."""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from conftest import PROJECT
from finished_study import CHANGES, fill_results

from afmp import records
from afmp.finished.archive import write_archive
from afmp.finished.manifest import entry
from afmp.study.study import resolve_study


def small_config() -> dict:
    """Return the configuration of the smallest study with every kind of figure."""
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    for section, values in CHANGES.items():
        config[section] = config[section] | values if section in ("dataset", "training") else values
    return config


def write_small_archive(folder: Path, **changes) -> Path:
    """Fill results/ and archive/ in `folder`, with `changes` of the configuration, and return the archive."""
    config = small_config() | changes
    fill_results(folder / "results", resolve_study(config))
    write_archive(config, results=folder / "results", archive=folder / "archive")
    return folder / "archive"


def rewrite_manifest(archive: Path, change: Callable[[dict], object]) -> None:
    """Change the manifest of an archive, and its checksum."""
    manifest = json.loads((archive / "MANIFEST.json").read_text())
    manifest.pop("checksum", None)
    change(manifest)
    (archive / "MANIFEST.json").write_text(json.dumps(records.with_checksum(manifest)))


def replace_file(archive: Path, path: str, content: bytes, *, instead: str | None = None) -> None:
    """Write a file of an archive, in the place of another if one is named, and the manifest that names it."""
    if instead is not None:
        (archive / instead).unlink()
    (archive / path).parent.mkdir(parents=True, exist_ok=True)
    (archive / path).write_bytes(content)
    rewrite_manifest(archive, lambda manifest: _renamed(manifest["files"], instead).update({path: entry(content)}))


def _renamed(files: dict, gone: str | None) -> dict:
    files.pop(gone, None)
    return files


def change_record(archive: Path, path: str, change: Callable[[dict], object]) -> None:
    """Change a record of an archive, its checksum, and the manifest."""
    record = json.loads((archive / path).read_text())
    record.pop("checksum", None)
    change(record)
    replace_file(archive, path, json.dumps(records.with_checksum(record)).encode())
