"""The archive of a finished study: its numbers, tables and figures, small enough to commit.

Its layout is that of results/, with four additions: config.yaml runs the study again, study.json is the resolved
configuration, from which figures are drawn without the dataset, test_images/ contains the images on which gates were
recorded, and MANIFEST.json a hash of every file.
"""

import gzip
import json
import shutil
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import yaml
from PIL import Image
from safetensors import safe_open

from afmp.errors import AfmpError
from afmp.figures.catalogue import figures, last_diagnostics
from afmp.finished.manifest import MANIFEST, checked_paths, entry
from afmp.finished.study_records import study_records
from afmp.log import log
from afmp.machine.scratch import scratch_folder
from afmp.records import (
    atomic_path,
    read_json,
    with_checksum,
    write_manifest,
)
from afmp.study.paths import TABLES, dataset_file, image_file, table_file
from afmp.study.study import resolve_study

MAX_FILE_BYTES = 1_000_000  # small, because a git repository keeps every version of every file for ever


def write_archive(config: dict, *, results: Path | str, archive: Path | str) -> None:
    """Collect the results of the study `config` from the folder `results` into the folder `archive`.

    JSON is written without line breaks, and as .json.gz if it is larger than MAX_FILE_BYTES; no digit is lost. A larger
    figure or table is left out, and the log says so. Raises AfmpError if the study is unfinished or was computed with
    another configuration, if the folder is an archive already, or if packed numbers are larger than MAX_FILE_BYTES.
    """
    results, archive = Path(results), Path(archive)
    study = resolve_study(config)
    if (archive / MANIFEST).exists():
        raise AfmpError(f"{archive}: already an archive; choose another name or remove it.")
    records = study_records(study)
    derived = [table_file(table) for table in TABLES]
    derived += [file for drawing in figures(asdict(study)) for file in drawing.files]
    dataset = dataset_file(study.dataset.source)
    _refuse_unfinished(results, [*(record.path for record in records), *derived, dataset])
    numbers = {record.path: record.read(results) for record in records}
    for record in records:
        if record.kind == "result" and numbers[record.path]["config"] != study.runs[record.about["run"]].to_dict():
            raise AfmpError(f"{results / record.path}: computed with another configuration; give the study's own.")

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
    # Written last: a folder with a manifest is a complete archive.
    entries = {path: entry(archive / path) for path in sorted([*contents, *small, *map(image_file, images)])}
    write_manifest(archive / MANIFEST, {"format_version": 1, "files": entries})
    log.info("%s: %d files, %.1f MB", archive, len(entries), sum(e["bytes"] for e in entries.values()) / 1e6)


@contextmanager
def open_archive(archive: Path | str):
    """Yield a temporary folder with an archive's files, unpacked, in the layout of results/.

    Raises AfmpError for a folder that is no archive, and naming the first file that is not as the manifest says.
    """
    archive = Path(archive)
    paths = checked_paths(archive)
    with scratch_folder() as unpacked:
        _unpack(archive, paths, unpacked)
        yield unpacked


def draw_archive(archive: Path | str, folder: Path | str) -> None:
    """Draw every figure of the archived study, and each run's diagnostics at its last epoch, into `folder`.

    Raises AfmpError for a folder that is no archive, and naming the first file that is not as the manifest says.
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


def _packed(path: str, text: str) -> tuple[str, bytes]:
    """Return path and bytes of one text in an archive: plain, or as <path>.gz if it is larger than MAX_FILE_BYTES."""
    content = text.rstrip().encode() + b"\n"
    if len(content) > MAX_FILE_BYTES:
        path, content = f"{path}.gz", gzip.compress(content, mtime=0)
    if len(content) > MAX_FILE_BYTES:
        raise AfmpError(f"{path}: {len(content):,} bytes; a file of an archive may have {MAX_FILE_BYTES:,}.")
    return path, content


def _unpack(archive: Path, paths: list[str], folder: Path) -> None:
    # Other files than those of the manifest were not checked, and so are not used.
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
