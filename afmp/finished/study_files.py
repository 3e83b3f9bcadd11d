"""The files of a finished study: every one that the workflow makes and that outlives it."""

from itertools import product

from afmp.figures.catalogue import Drawing, diagnostics_figures, figures
from afmp.finished.study_records import study_records
from afmp.study.paths import (
    CLAIMS_FILE,
    WEIGHTS,
    dataset_file,
    dataset_hash_file,
    files_of_table,
    resolution_file,
    weights_file,
)
from afmp.study.study import Study


def study_drawings(study: Study) -> list[Drawing]:
    """Return every figure of a study: those of `figures`, then each run's diagnostics at every recorded epoch."""
    plain = study.to_dict()
    drawings = figures(plain)
    for semantics, run in study.trainings:
        epochs = study.runs[run].visualized_epochs
        drawings += diagnostics_figures(plain, semantics=semantics, run=run, epochs=epochs)
    return drawings


def study_files(study: Study) -> list[str]:
    """Return the paths of all files of a finished study below its results folder, but the manifest of them."""
    records = [record.path for record in study_records(study)]
    weights = [
        weights_file(semantics, run, seed, which)
        for (semantics, run), seed, which in product(study.trainings, study.seeds, WEIGHTS)
    ]
    parts = [
        resolution_file(*part)
        for part in product(study.swept_semantics, (study.scalability or {}).get("resolutions", ()))
    ]
    tables = [file for table in study.tables for file in files_of_table(table).values()]
    drawn = [file for drawing in study_drawings(study) for file in drawing.files]
    dataset = [name(study.dataset.source) for name in (dataset_file, dataset_hash_file)]
    return [*dataset, *records, *weights, *parts, *tables, CLAIMS_FILE, *drawn]
