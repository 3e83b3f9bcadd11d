"""The catalogue of tables: each by its name, as `afmp.study.paths` lists them, with its caption."""

import pandas

from afmp.analysis.parameter_table import parameters_caption, parameters_table
from afmp.analysis.study_tables import (
    differences_caption,
    differences_table,
    epochs_caption,
    epochs_table,
    summary_caption,
    summary_table,
)
from afmp.analysis.sweep_tables import (
    fits_caption,
    fits_table,
    ratios_caption,
    ratios_table,
    scalability_caption,
    scalability_table,
)

Tables = dict[str, tuple[pandas.DataFrame, str]]


def run_tables(results: list[dict], studies: list[dict]) -> Tables:
    """Return the tables of all runs from their results, each with its caption in reStructuredText."""
    epochs, summary = epochs_table(results), summary_table(results, studies)
    differences = differences_table(results, studies)
    return {
        "epochs": (epochs, epochs_caption(epochs)),
        "summary": (summary, summary_caption(summary)),
        "differences": (differences, differences_caption(differences)),
    }


def sweep_tables(sweeps: list[dict], parameters: dict) -> Tables:
    """Return the tables of the sweeps of all semantics and of the parameter counts, each with its caption."""
    points, ratios, fits = (
        pandas.concat(map(table, sweeps)) for table in (scalability_table, ratios_table, fits_table)
    )
    return {
        "scalability": (points, scalability_caption(sweeps)),
        "scalability_ratios": (ratios, ratios_caption(sweeps)),
        "scalability_fits": (fits, fits_caption(fits)),
        "parameters": (parameters_table(parameters), parameters_caption(parameters)),
    }
