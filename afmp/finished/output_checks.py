"""Checks of what is made from the records: figures are newer than their data, tables equal the recomputed ones."""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from afmp.analysis.table_files import write_csv
from afmp.analysis.tables import Tables, run_tables, sweep_tables
from afmp.figures.catalogue import diagnostics_figures, figures
from afmp.finished.check import Check
from afmp.finished.finished_study import FinishedStudy
from afmp.machine.scratch import scratch_folder
from afmp.study.paths import (
    PARAMETERS_FILE,
    RUN_TABLES,
    SWEEP_TABLES,
    plot_diagnostics_folder,
    scalability_file,
    table_file,
)


def figure_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield one check per figure, and one per run with the figures of all its epochs."""
    study = asdict(finished.study)
    groups = {drawing.path: [drawing] for drawing in figures(study)}
    for semantics, (run, config) in product(finished.study.semantics, finished.study.runs.items()):
        epochs = config.training.visualized_epochs
        drawings = diagnostics_figures(study, semantics=semantics, run=run, epochs=epochs)
        groups[plot_diagnostics_folder(semantics, run)] = drawings
    for name, drawings in groups.items():
        files = [file for drawing in drawings for file in drawing.files]
        yield Check(f"{name}, newer than its data", _older(files, drawings[0].sources, finished.results))


def _older(files: list[str], sources: list[str], results: Path) -> list[str]:
    """Return the faults of files that are missing, or older than the newest of the sources that exist."""
    times = {path: (results / path).stat().st_mtime_ns for path in sources if (results / path).is_file()}
    newest = max(times, key=times.get, default=None)
    faults = [f"{results / file}: no such file" for file in files if not (results / file).is_file()]
    for file in files:
        if newest and (results / file).is_file() and (results / file).stat().st_mtime_ns < times[newest]:
            faults.append(
                f"{results / file}: older than {results / newest}; delete it, and `snakemake all` draws it again"
            )
    return faults


def table_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield one check per table: it is computed again, and every cell must be equal as printed."""
    measured = [PARAMETERS_FILE, *map(scalability_file, finished.study.semantics)]
    yield from _checks(RUN_TABLES, finished, finished.trained, lambda found: run_tables(found, finished.study.studies))
    yield from _checks(SWEEP_TABLES, finished, measured, lambda found: sweep_tables(found[1:], found[0]))


def _checks(
    names: Sequence[str], finished: FinishedStudy, sources: list[str], compute: Callable[[list[dict]], Tables]
) -> Iterator[Check]:
    """Yield the checks of the tables `names`, which `compute` makes from the contents of their sources."""
    broken = [path for path in sources if finished.faults[path]]
    tables = {} if broken else compute([finished.contents[path] for path in sources])
    with scratch_folder() as scratch:
        for name in names:
            written, recomputed = finished.results / table_file(name), scratch / f"{name}.csv"
            if broken:
                count = f"{len(broken)} of its {len(sources)} sources failed, first {finished.results / broken[0]}"
                faults = [f"{written}: not computed again, because {count}"]
            else:
                write_csv(tables[name][0], recomputed)
                faults = _different_cell(written, recomputed)
            yield Check(f"table {name}, computed again", faults)


def _different_cell(written: Path, recomputed: Path) -> list[str]:
    """Return the fault of the first cell that differs, as printed."""
    try:
        found, expected = (list(csv.reader(path.read_text("utf-8").splitlines())) for path in (written, recomputed))
    except FileNotFoundError:
        return [f"{written}: no such file"]
    except (UnicodeDecodeError, csv.Error) as error:
        return [f"{written}: not a CSV file ({error})"]
    if len(found) != len(expected):
        return [f"{written}: {len(found)} lines, {len(expected)} computed from the results"]
    for line, (cells, others) in enumerate(zip(found, expected, strict=True), 1):
        if len(cells) != len(others):
            return [f"{written}: line {line} has {len(cells)} cells, {len(others)} computed from the results"]
        for column, cell, other in zip(expected[0], cells, others, strict=True):
            if cell != other:
                return [f"{written}: line {line}, {column}: {cell!r}, {other!r} computed from the results"]
    return []
