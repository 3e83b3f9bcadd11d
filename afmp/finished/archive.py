"""The archive of a finished study: its numbers, tables and figures, small enough to commit.

Its layout is that of results/, with four additions: config.yaml runs the study again, study.json is the resolved
configuration, test_images/ contains the images on which gates were recorded, and MANIFEST.json a hash of every file.
"""

import gzip
import io
import json
from pathlib import Path

import yaml
from PIL import Image

from afmp.errors import AfmpError
from afmp.figures.catalogue import figures
from afmp.files import is_there, read_plain
from afmp.finished.manifest import MANIFEST, MAX_FILES, MAX_READ_BYTES, STUDY_FILE, entry, read_entries
from afmp.finished.opened_archive import MAX_UNPACKED_BYTES
from afmp.finished.study_difference import study_difference
from afmp.finished.study_records import records_by_path
from afmp.log import log
from afmp.records import atomic_path, read_json, remove_leftovers, write_manifest
from afmp.study.config_file import MAX_BYTES as MAX_CONFIG_BYTES
from afmp.study.config_file import config_of
from afmp.study.paths import CLAIMS_FILE, dataset_file, image_file, table_file
from afmp.study.study import Study, resolve_elsewhere, resolve_study
from afmp.tensors import read_row

MAX_FILE_BYTES = 1_000_000  # small, because a git repository keeps every version of every file for ever
BY_HAND = ("README.md", "expected.yaml")  # in the folder of an archive, but not in its manifest


def write_archive(config: dict, *, results: Path | str, archive: Path | str) -> None:
    """Collect the results of the study `config` from the folder `results` into the folder `archive`.

    JSON is written without line breaks, and as .json.gz if it is larger than MAX_FILE_BYTES; no digit is lost. A larger
    figure or table is left out, and the log says so. What a killed call has written is kept.

    Raises AfmpError if the study is unfinished or was computed with another configuration, if the folder contains
    anything that is not, byte for byte, a part of this archive, or if packed numbers are larger than MAX_FILE_BYTES.
    """
    results, archive = Path(results), Path(archive)
    study = resolve_study(config)
    records = records_by_path(study)
    derived = [CLAIMS_FILE, *(table_file(table) for table in study.tables)]
    derived += [file for drawing in figures(study.to_dict()) for file in drawing.files]
    dataset = dataset_file(study.dataset.source)
    _refuse_unfinished(results, [*records, *derived, dataset])
    _refuse_foreign(archive, {*records, *derived, "config.yaml", STUDY_FILE})
    large = [path for path in derived if (results / path).stat().st_size > MAX_FILE_BYTES]
    for path in sorted(large):
        log.info("%s is over %s bytes and is left out", path, f"{MAX_FILE_BYTES:,}")

    finished = read_entries(archive) if is_there(archive / MANIFEST) else None
    remove_leftovers(archive)
    entries: dict[str, dict] = {}

    def keep(path: str, content: bytes) -> None:
        entries[path] = entry(content)
        _keep(archive, path, content, finished)

    # First, so that a folder of another study is refused before anything is written into it.
    keep("config.yaml", _config_text(config, study))
    keep(*_packed(STUDY_FILE, json.dumps(study.to_dict(), indent=2, ensure_ascii=False)))
    images: set[int] = set()
    # What is missing comes first, so that a call that is killed again and again gets on.
    for path in sorted(records, key=lambda path: is_there(archive / path)):
        content = read_json(results / path)
        packed, text = _packed(path, json.dumps(content, separators=(",", ":"), allow_nan=False))
        # A file that is there was checked before it was written, and is compared with this one.
        if not is_there(archive / packed):
            records[path].check(records[path].read(results), study, where=results / path)
        keep(packed, text)
        images |= {content["image_index"]} if "image_index" in content else set()
    for path in sorted(set(derived) - set(large)):
        keep(path, read_plain(results / path, max_bytes=MAX_FILE_BYTES))
    for index in images:
        keep(image_file(index), _png(results / dataset, index))

    if len(entries) > MAX_FILES:
        raise AfmpError(f"{archive}: {len(entries):,} files; an archive has at most {MAX_FILES:,}.")
    if finished is None:
        # Written last: a folder with a manifest is a complete archive.
        write_manifest(archive / MANIFEST, {"format_version": 1, "files": dict(sorted(entries.items()))})
    elif finished.keys() != entries.keys():
        raise AfmpError(f"{archive}: already an archive, with other files than this study's; choose another name.")
    log.info("%s: %d files, %.1f MB", archive, len(entries), sum(e["bytes"] for e in entries.values()) / 1e6)


def _keep(archive: Path, path: str, content: bytes, finished: dict[str, dict] | None) -> None:
    """Write one file unless it is there. Raises AfmpError if another is there, or in the finished archive."""
    file = archive / path
    if finished is not None and finished.get(path) != entry(content):
        raise AfmpError(
            f"{archive}: already an archive, in which {path} differs from this study's; choose another name."
        )
    if not is_there(file):
        with atomic_path(file) as temporary:
            temporary.write_bytes(content)
    elif read_plain(file, max_bytes=MAX_READ_BYTES) != content:
        raise AfmpError(
            f"{file}: there already, and differs from this study's; choose another folder for the archive or "
            "remove the file."
        )


def _refuse_unfinished(results: Path, needed: list[str]) -> None:
    missing = [path for path in needed if not is_there(results / path)]
    if missing:
        raise AfmpError(
            f"{results}: the study is unfinished: {missing[0]} is missing, and with it {len(missing) - 1} of "
            f"{len(needed)} files; `snakemake all` makes them."
        )


def _refuse_foreign(archive: Path, own: set[str]) -> None:
    """Raise AfmpError if the folder contains a file that has no place in this archive: it may be anyone's.

    Of a link, what it leads to is outside, where nothing may be written.
    """
    own = own | {MANIFEST, *BY_HAND}
    for file in archive.rglob("*"):
        path, name = file.relative_to(archive).as_posix(), file.stem
        if file.is_symlink() and path not in BY_HAND:
            raise AfmpError(
                f"{file}: is a link, but an archive contains only files; remove it or choose another folder."
            )
        is_image = name.isdecimal() and path == image_file(name)
        if path.removesuffix(".gz") not in own and not is_image and not file.is_dir() and not file.match(".*.part"):
            raise AfmpError(
                f"{archive}: contains {path}, which is no part of this study's archive; choose another folder or "
                "remove the file."
            )


def _packed(path: str, text: str) -> tuple[str, bytes]:
    """Return path and bytes of one text in an archive: plain, or as <path>.gz if it is larger than MAX_FILE_BYTES."""
    content = text.rstrip().encode() + b"\n"
    if len(content) > MAX_UNPACKED_BYTES:
        raise AfmpError(f"{path}: {len(content):,} bytes unpacked; archives are read up to {MAX_UNPACKED_BYTES:,}.")
    if len(content) > MAX_FILE_BYTES:
        path, content = f"{path}.gz", gzip.compress(content, mtime=0)
    if len(content) > MAX_FILE_BYTES:
        raise AfmpError(f"{path}: {len(content):,} bytes; a file of an archive may have {MAX_FILE_BYTES:,}.")
    return path, content


def _config_text(config: dict, study: Study) -> bytes:
    """Return the configuration as YAML. Raises AfmpError if it would not be read as this very study."""
    content = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()
    unlike = study_difference(resolve_elsewhere(config_of(content, where="config.yaml")).to_dict(), study.to_dict())
    if unlike or len(content) > MAX_CONFIG_BYTES:
        unlike = unlike or f"{len(content):,} bytes, of which at most {MAX_CONFIG_BYTES:,} are read"
        raise AfmpError(f"config.yaml: cannot be archived: {unlike}.")
    return content


def _png(dataset: Path, index: int) -> bytes:
    pixels = read_row(dataset, "test_images", index, advice="delete it so that it is prepared again")  # uint8 (3, H, W)
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, format="png")
    return buffer.getvalue()
