"""The archive of a finished study: its numbers, tables and figures, small enough to commit, and a hash of every file.

Laid out as results/, with a little more: config.yaml runs the study again, study.json is that configuration resolved
(so that drawing needs no dataset), test_images/ has the image that diagnostics were read on, MANIFEST.json the hashes.
"""

import gzip
import hashlib
import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import yaml
from PIL import Image
from safetensors import safe_open

from afmp.errors import AfmpError
from afmp.figures.catalogue import figures, last_diagnostics
from afmp.log import log
from afmp.records import (
    atomic_path,
    read_diagnostics,
    read_json,
    read_manifest,
    read_parameters,
    read_result,
    read_scalability,
    with_checksum,
    write_manifest,
)
from afmp.study.paths import TABLES, diagnostics_file, image_file, result_file, scalability_file
from afmp.study.study import Study, resolve_study

# A repository keeps every version of every file for good.
MAX_FILE_BYTES = 1_000_000
MANIFEST = "MANIFEST.json"


def write_archive(config: dict, *, results: Path | str, archive: Path | str) -> None:
    """Collect into the folder `archive` what the study `config` left in the folder `results`.

    JSON loses its line breaks and no digit; where it is over MAX_FILE_BYTES, it is packed as .json.gz. A figure or
    table over it is left out, and the log says so. Raises AfmpError for a study that is unfinished or was computed with
    another configuration, for a folder that is an archive already, and for packed numbers over MAX_FILE_BYTES.
    """
    results, archive = Path(results), Path(archive)
    study = resolve_study(config)
    if (archive / MANIFEST).exists():
        raise AfmpError(f"{archive}: already an archive; choose another name or remove it.")
    readers = study_records(study)
    derived = [f"aggregate/{table}.csv" for table in TABLES]
    derived += [file for drawing in figures(asdict(study)) for file in drawing.files]
    dataset = f"prepare_data/{study.dataset.source}.safetensors"
    _refuse_unfinished(results, [*readers, *derived, dataset])
    numbers = {path: read(results / path) for path, read in readers.items()}
    _refuse_other_configuration(study, numbers, results)

    texts = {
        path: json.dumps(with_checksum(content), separators=(",", ":"), allow_nan=False)
        for path, content in numbers.items()
    }
    texts |= {
        "study.json": json.dumps(asdict(study), indent=2, ensure_ascii=False),
        "config.yaml": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }
    contents = dict(_packed(path, text) for path, text in texts.items())
    images = {content["image_index"] for content in numbers.values() if "image_index" in content}
    small = [path for path in derived if (results / path).stat().st_size <= MAX_FILE_BYTES]
    for path in sorted(set(derived) - set(small)):
        log.info("%s is over %s bytes and is left out", path, f"{MAX_FILE_BYTES:,}")

    for path, content in contents.items():
        with atomic_path(archive / path) as temporary:
            temporary.write_bytes(content)
    for path in small:
        with atomic_path(archive / path) as temporary:
            shutil.copyfile(results / path, temporary)
    for index in images:
        _write_image(results / dataset, index, archive / image_file(index))
    # Last, so that a folder with a manifest is a whole archive.
    entries = {path: _entry(archive / path) for path in sorted([*contents, *small, *map(image_file, images)])}
    write_manifest(archive / MANIFEST, {"format_version": 1, "files": entries})
    log.info("%s: %d files, %.1f MB", archive, len(entries), sum(e["bytes"] for e in entries.values()) / 1e6)


def study_records(study: Study) -> dict:
    """Every record of a study: its path below results/ and the function that reads it, checked."""
    found = {"count_parameters/parameters.json": read_parameters}
    for semantics in study.semantics:
        found[scalability_file(semantics)] = read_scalability
        for run in study.runs:
            for seed in study.seeds:
                found[result_file(semantics, run, seed)] = read_result
                found[diagnostics_file(semantics, run, seed)] = read_diagnostics
    return found


@contextmanager
def open_archive(archive: Path | str):
    """Yield a folder with an archive's files, unpacked and laid out as results/, for as long as the block lasts.

    Raises AfmpError naming the first file that is missing or is not the one of the manifest, or a folder that is no
    archive.
    """
    archive = Path(archive)
    paths = _checked_paths(archive)
    with tempfile.TemporaryDirectory() as unpacked:
        _unpack(archive, paths, Path(unpacked))
        yield Path(unpacked)


def draw_archive(archive: Path | str, folder: Path | str) -> None:
    """Draw every figure of the archived study, and each run's diagnostics at its last epoch, into `folder`.

    The code that draws is the workflow's; the study is the archive's own. Raises AfmpError naming the first file that
    is missing or is not the one of the manifest, or a folder that is no archive.
    """
    folder = Path(folder)
    with open_archive(archive) as unpacked:
        study = read_json(unpacked / "study.json")
        for drawing in [*figures(study), *last_diagnostics(study)]:
            drawing.write(source=unpacked, folder=folder)
            log.info("%s", folder / drawing.files[0])


def _refuse_unfinished(results: Path, needed: list[str]) -> None:
    missing = [path for path in needed if not (results / path).is_file()]
    if missing:
        raise AfmpError(
            f"{results}: the study is unfinished: {missing[0]} is missing, and with it {len(missing) - 1} of "
            f"{len(needed)} files; `snakemake all` makes them."
        )


def _refuse_other_configuration(study: Study, numbers: dict, results: Path) -> None:
    for path, content in numbers.items():
        if (
            path.startswith("train/")
            and "config" in content
            and content["config"] != study.runs[content["run"]].to_dict()
        ):
            raise AfmpError(
                f"{results / path}: computed with another configuration than the one given; give the study's own."
            )


def _packed(path: str, text: str) -> tuple[str, bytes]:
    """Path and bytes of one text in an archive: as it is, or as <path>.gz where that would be over MAX_FILE_BYTES."""
    content = text.rstrip().encode() + b"\n"
    if len(content) > MAX_FILE_BYTES:
        path, content = f"{path}.gz", gzip.compress(content, mtime=0)
    if len(content) > MAX_FILE_BYTES:
        raise AfmpError(f"{path}: {len(content):,} bytes; a file of an archive may have {MAX_FILE_BYTES:,}.")
    return path, content


def _unpack(archive: Path, paths: list[str], folder: Path) -> None:
    # What the manifest does not name was not checked, and stays where it is.
    for path in paths:
        target = folder / path.removesuffix(".gz")
        target.parent.mkdir(parents=True, exist_ok=True)
        content = (archive / path).read_bytes()
        target.write_bytes(gzip.decompress(content) if path.endswith(".gz") else content)


def _write_image(dataset: Path, index: int, path: Path) -> None:
    with safe_open(dataset, framework="numpy") as file:
        pixels = file.get_slice("test_images")[index]  # uint8 (3, H, W)
    with atomic_path(path) as temporary:
        Image.fromarray(pixels.transpose(1, 2, 0)).save(temporary, format="png")


def _entry(path: Path) -> dict:
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def manifest_of(archive: Path | str) -> Path:
    """The manifest of an archive; AfmpError for a folder that is none."""
    manifest = Path(archive, MANIFEST)
    if not manifest.is_file():
        raise AfmpError(
            f"{archive}: no archive there, seen from {Path.cwd()}, for want of a {MANIFEST}; "
            "`snakemake archive` makes one."
        )
    return manifest


def _checked_paths(archive: Path) -> list[str]:
    entries = read_manifest(manifest_of(archive))["files"]
    for path, entry in entries.items():
        file = archive / path
        if not file.resolve().is_relative_to(archive.resolve()):
            raise AfmpError(f"{file}: outside of the archive, but {MANIFEST} names it; restore the archive.")
        if not file.is_file():
            raise AfmpError(f"{file}: missing, but {MANIFEST} names it; restore the archive.")
        if _entry(file) != entry:
            raise AfmpError(f"{file}: not the file that {MANIFEST} names, its sha256 differs; restore the archive.")
    return list(entries)
