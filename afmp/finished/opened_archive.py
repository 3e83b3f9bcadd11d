"""An archive, opened: its study and its records, read only as far as they are what the manifest and config.yaml say.

An archive may come from anywhere. Nothing of it is unpacked to the disk, no file outside of it is opened, and what is
read is bounded: gzip packs a thousand bytes into one, and JSON takes thirty times its size in memory.
"""

import gzip
import io
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from afmp.errors import AfmpError
from afmp.figures.parts.image import decode_image
from afmp.finished.manifest import MANIFEST, STUDY_FILE, checked_content, read_entries
from afmp.finished.study_difference import study_difference
from afmp.finished.study_records import StudyRecord, records_by_path
from afmp.records import json_of, record_of
from afmp.study import config_file
from afmp.study.paths import CLAIMS_FILE, image_file
from afmp.study.study import Study, resolve_elsewhere

MAX_UNPACKED_BYTES = 32_000_000  # of one file
# Of all records that are in memory at once, which are those of one figure.
MAX_BYTES = 256_000_000
MAX_VALUES = 8_000_000


@dataclass(frozen=True)
class OpenedArchive:
    """An archive: its folder, the manifest's entry of each file, and its study, derived from config.yaml."""

    folder: Path
    entries: dict[str, dict]
    study: Study

    @cached_property
    def records(self) -> dict[str, StudyRecord]:
        """Every record of the study, by path."""
        return records_by_path(self.study)

    def has(self, path: str) -> bool:
        """Return whether the archive has a record."""
        return path in self.entries or f"{path}.gz" in self.entries

    def read_records(self, paths: list[str]) -> dict[str, dict]:
        """Return the contents of records, by path.

        Raises AfmpError naming the first that is missing, not valid, or of another run or configuration than its path
        says, and if together they have more than MAX_BYTES or MAX_VALUES.
        """
        found, num_bytes, num_values = {}, 0, 0
        for path in paths:
            content, where = self._content(path), self.folder / path
            num_bytes += len(content)
            # Each value but the last of a list or mapping has a comma, and each list or mapping a bracket.
            num_values += sum(content.count(mark) for mark in (b",", b"[", b"{"))
            if num_bytes > MAX_BYTES or num_values > MAX_VALUES:
                raise AfmpError(
                    f"{where}: with it, the records of one figure have more than {MAX_BYTES:,} bytes or "
                    f"{MAX_VALUES:,} values; no larger archive is read."
                )
            record = self.records[path]
            try:
                found[path] = record_of(record.kind, content, where=where)
            except AfmpError as error:  # what an archive has cannot be made again
                said = str(error).replace("delete it so that it is made again", "restore the archive")
                raise AfmpError(said) from None
            record.check(found[path], self.study, where=where)
        return found

    def read_file(self, path: str) -> bytes:
        """Return the content of a file. Raises AfmpError if it is missing, changed, or too large."""
        return self._content(path)

    def read_claims(self) -> dict:
        """Return the content of the archive's claims. Raises AfmpError if it has none, or as `config_of`."""
        return config_file.config_of(self._content(CLAIMS_FILE), where=self.folder / CLAIMS_FILE)

    def read_test_image(self, index: int) -> np.ndarray:
        """Return an archived test image, uint8 (3, H, W). Raises AfmpError for another size than the study's."""
        path = image_file(index)
        return decode_image(self._content(path), side=self.study.dataset.image_size, where=self.folder / path)

    def _content(self, path: str) -> bytes:
        return _unpacked(self.folder, self.entries, path, max_bytes=MAX_UNPACKED_BYTES)


def open_archive(archive: Path | str) -> OpenedArchive:
    """Open an archive after a check of every file in it.

    Raises AfmpError for a folder that is no archive or an unfinished one, naming the first file that is not as the
    manifest says, and naming the first key in which study.json is not what config.yaml gives.
    """
    folder = Path(archive)
    entries = read_entries(folder)
    for path, expected in entries.items():
        checked_content(folder, path, expected)
    return opened_unchecked(folder, entries)


def opened_unchecked(folder: Path, entries: dict[str, dict]) -> OpenedArchive:
    """Return an archive of which only config.yaml and study.json were checked; every other file is when it is read."""
    return OpenedArchive(folder, entries, _derived_study(folder, entries))


def archived_study(archive: Path | str) -> Study:
    """Return the study of an archive, derived from its config.yaml; no figure or record is read.

    Raises AfmpError as `open_archive`.
    """
    return _derived_study(Path(archive), read_entries(Path(archive)))


def _derived_study(archive: Path, entries: dict[str, dict]) -> Study:
    """Return the study that config.yaml describes, if study.json says the same and the manifest names its records."""
    content = _unpacked(archive, entries, "config.yaml", max_bytes=config_file.MAX_BYTES)
    config = config_file.config_of(content, where=archive / "config.yaml")
    try:
        study = resolve_elsewhere(config)
    except AfmpError as error:
        raise AfmpError(
            f"{archive / 'config.yaml'}: {str(error).rstrip('.')}; restore the archive, or read it with the release of "
            "AFMP that wrote it."
        ) from None
    # Before the records are listed: few lines of a configuration describe thousands of them.
    if 2 * len(study.trainings) * len(study.seeds) > len(entries):
        raise AfmpError(
            f"{archive}: config.yaml has {len(study.runs):,} runs and {len(study.seeds):,} seeds, but {MANIFEST} names "
            f"{len(entries):,} files only; restore the archive."
        )
    where = archive / STUDY_FILE
    recorded = json_of(_unpacked(archive, entries, STUDY_FILE, max_bytes=MAX_UNPACKED_BYTES), where=where)
    unlike = study_difference(json.loads(json.dumps(study.to_dict())), recorded)
    if unlike:
        raise AfmpError(f"{where}: {unlike}; restore the archive, or read it with the release of AFMP that wrote it.")
    return study


def _unpacked(archive: Path, entries: dict[str, dict], path: str, *, max_bytes: int) -> bytes:
    """Return the content of one file, plain or packed. Raises AfmpError if it is missing or larger than `max_bytes`."""
    packed = f"{path}.gz"
    if path not in entries and packed not in entries:
        raise AfmpError(f"{archive}: lacks {path[:300]}: {MANIFEST} does not name it; restore the archive.")
    if path in entries:
        content = checked_content(archive, path, entries[path])
    else:
        try:
            with gzip.open(io.BytesIO(checked_content(archive, packed, entries[packed]))) as file:
                content = file.read(max_bytes + 1)  # not whole: it may be a thousand times as large
        except (OSError, EOFError, zlib.error) as error:
            raise AfmpError(f"{archive / packed}: not a gzip file ({error}); restore the archive.") from None
    if len(content) > max_bytes:
        raise AfmpError(f"{archive / path}: more than {max_bytes:,} bytes once it is unpacked; no larger file is read.")
    return content
