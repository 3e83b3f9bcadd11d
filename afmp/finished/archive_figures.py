"""The figures of an archived study, drawn again from its records, without dataset or training."""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from afmp.errors import AfmpError, one_line
from afmp.figures.catalogue import Drawing, figures, last_diagnostics
from afmp.finished.opened_archive import OpenedArchive, open_archive
from afmp.log import log
from afmp.records import atomic_path
from afmp.sources import import_closure, source_hash
from afmp.study.paths import image_file
from afmp.study.study import Study

IMAGES = os.path.dirname(image_file(0))


def archive_drawings(study: Study) -> list[Drawing]:
    """Return every figure that is drawn of an archived study: its own, and each run's diagnostics at its last epoch."""
    return [*figures(study.to_dict()), *last_diagnostics(study.to_dict())]


def draw_archive(archive: Path | str, folder: Path | str, *, finished: Path | str) -> None:
    """Draw every figure of the archived study below `folder`, which then has no other file.

    Each figure is first drawn in the folder `finished`, and kept there by what it is made from: the hashes of its
    records, the code, and the study's words. So a call after a killed one, or after an edit, draws only what it must.
    Raises AfmpError for a folder that is no archive, and naming the first file that is not as the manifest or
    config.yaml says.
    """
    folder, finished = Path(folder), Path(finished)
    opened = open_archive(archive)
    drawings = archive_drawings(opened.study)
    kept = {drawing.path: finished / f"{drawing.name}_{_identity(opened, drawing)[:16]}" for drawing in drawings}
    for drawing in drawings:
        place = kept[drawing.path]
        if not all((place / file).is_file() for file in drawing.files):
            draw_figure(opened, drawing, place)
        log.info("%s", folder / drawing.files[0])
    for drawing in drawings:
        for file in drawing.files:
            with atomic_path(folder / file) as temporary:
                shutil.copyfile(kept[drawing.path] / file, temporary)
    _remove_others(folder, {folder / file for drawing in drawings for file in drawing.files})
    _remove_others(finished, {kept[drawing.path] / file for drawing in drawings for file in drawing.files})


def draw_figure(opened: OpenedArchive, drawing: Drawing, folder: Path) -> None:
    """Draw one figure of an archive below `folder`. Raises AfmpError if its records cannot be read or drawn."""
    contents = opened.read_records(drawing.sources)
    try:
        drawing.write_from(contents, opened.read_test_image, folder=folder)
    # Records that follow their schemas may still say what cannot be drawn: an edge to a patch that is not there.
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, AfmpError) else one_line(error)
        raise AfmpError(f"{opened.folder}: {drawing.path} cannot be drawn from its records: {reason}") from error


def _identity(opened: OpenedArchive, drawing: Drawing) -> str:
    """Return a hash of all that a figure is made from."""
    used = {*drawing.sources, *(f"{path}.gz" for path in drawing.sources)}
    # Which test image is used, only the records say.
    used |= {path for path in opened.entries if drawing.dataset and path.startswith(IMAGES)}
    hashes = {path: expected["sha256"] for path, expected in opened.entries.items() if path in used}
    code = source_hash(import_closure(drawing.module, "afmp.figures.catalogue"))
    return hashlib.sha256(json.dumps([asdict(drawing), hashes, code], sort_keys=True).encode()).hexdigest()


def _remove_others(folder: Path, own: set[Path]) -> None:
    """Remove the figures of another archive, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in own:
            path.unlink()
