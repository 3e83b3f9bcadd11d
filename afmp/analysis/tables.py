"""The catalogue of tables: each by its name, as `afmp.study.paths` lists them, with its caption."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas

from afmp.analysis.claim_tables import claims_caption, claims_table, printed_claims
from afmp.analysis.claims import Answers
from afmp.analysis.parameter_table import parameters_caption, parameters_table
from afmp.analysis.printed_tables import PrintedTable, printed_differences, printed_summary
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


class Table(NamedTuple):
    """A table, its caption in reStructuredText, and for those of PRINTED_TABLES also its form for publication."""

    rows: pandas.DataFrame
    caption: str
    printed: Sequence[PrintedTable] = ()


Tables = dict[str, Table]


def run_tables(results: list[dict], studies: list[dict]) -> Tables:
    """Return the tables of all runs from their results."""
    epochs, summary = epochs_table(results), summary_table(results, studies)
    differences = differences_table(results, studies)
    return {
        "epochs": Table(epochs, epochs_caption(epochs)),
        "summary": Table(summary, summary_caption(summary), printed_summary(summary, studies, results)),
        "differences": Table(
            differences, differences_caption(differences), printed_differences(differences, studies, results)
        ),
    }


def claim_tables(answers: Answers) -> Tables:
    """Return the table of claims."""
    return {"claims": Table(claims_table(answers), claims_caption(answers), printed_claims(answers))}


def sweep_tables(sweeps: list[dict], parameters: dict) -> Tables:
    """Return the tables of the sweeps of all semantics and of the parameter counts."""
    points, ratios, fits = (
        pandas.concat(map(table, sweeps)) for table in (scalability_table, ratios_table, fits_table)
    )
    return {
        "scalability": Table(points, scalability_caption(sweeps)),
        "scalability_ratios": Table(ratios, ratios_caption(sweeps)),
        "scalability_fits": Table(fits, fits_caption(fits)),
        "parameters": Table(parameters_table(parameters), parameters_caption(parameters)),
    }
