"""The sweep on the first page: its points for the chart, and the tables that follow the choice of a reader."""

import math
from pathlib import Path

import pandas

from afmp.analysis.models import MODEL_NAMES
from afmp.analysis.ratios import ratios
from afmp.analysis.series import MADE_BY_HAND
from afmp.analysis.tables import Tables
from afmp.analysis.wording import plain_text
from afmp.figures.catalogue import SWEEP_FIGURES
from afmp.finished.page_chart import empty_chart
from afmp.finished.page_libraries import script_of

QUANTITIES = {"time_ms": "time, ms", "activations_mb": "activations, MB"}
COEFFICIENTS = ("c0", "c1", "c2")
CHOICES = ("semantics", "precision", "mode", "execution")


def sweep_content(sweeps: list[dict], tables: Tables, figures: dict[str, dict]) -> dict:
    """Return what the page shows of the sweeps of all semantics. figures: those of the page, by path."""
    points = [_point(sweep["semantics"], point) for sweep in sweeps for point in sweep["points"]]
    choices = {name: list(dict.fromkeys(point[name] for point in points)) for name in CHOICES}
    parameters = tables["parameters"]
    has_flops = "flops" in parameters.rows
    return {
        "points": points,
        "chart": empty_chart(
            list(dict.fromkeys(point["model"] for point in points)), {point["patches"] for point in points}
        ),
        "library": script_of("bokeh"),
        "choices": choices,
        "by_hand": MADE_BY_HAND,
        "caption": plain_text(tables["scalability"].caption),
        "chosen": [
            {
                "id": "ratios",
                "title": "Ratios DeiT-Tiny / AFMP",
                "caption": plain_text(tables["scalability_ratios"].caption),
                "header": [
                    "Model",
                    "Size, px",
                    "Batch",
                    "Attention of DeiT-Tiny",
                    "Time",
                    "Peak memory",
                    "Activations",
                ],
                "rows": [row for sweep in sweeps for row in _ratio_rows(sweep)],
            },
            {
                "id": "fits",
                "title": "Fits c0 + B (c1 N + c2 N²) of a pass of B images of N patches",
                "caption": plain_text(tables["scalability_fits"].caption),
                "header": ["Model", "Quantity", "Sizes", *COEFFICIENTS, "Local slope", "Largest miss, %"],
                "rows": [_fit_row(row) for _, row in tables["scalability_fits"].rows.iterrows()],
            },
        ],
        "figures": [figure for path, figure in figures.items() if Path(path).name in SWEEP_FIGURES],
        "parameters": {
            "caption": plain_text(parameters.caption),
            "header": ["Model", "Parameters"] + ["GFLOPs of a forward pass of one image"] * has_flops,
            "rows": [
                [row["description"], f"{row['num_parameters']:,}"]
                + ([f"{row['flops'] / 1e9:.3g}"] if has_flops else [])
                for row in parameters.rows.to_dict("records")
            ],
        },
    }


def _point(semantics: str, point: dict) -> dict:
    """Return a point of the sweep for the chart: times and memory per image, none if it was not measured."""
    time, memory, batch = point["time_ms"], point["memory"], point["batch_size"]
    attention = f", {point['attention']} attention" if point["attention"] else ""
    peak = memory and memory["peak_mb"]
    return {
        "semantics": semantics,
        "model": f"{MODEL_NAMES.get(point['model'], point['model'])}{attention}",
        "precision": point["precision"],
        "mode": point["mode"],
        "execution": point["execution"],
        "size": point["resolution"],
        "patches": point["num_patches"],
        "batch": batch,
        "time": [time[key] / batch for key in ("q25", "median", "q75")] if time else None,
        "memory": [peak / batch] * 3 if peak else None,
        "status": point["status"],
    }


def _ratio_rows(sweep: dict) -> list[dict]:
    """Return the ratios DeiT-Tiny / AFMP of a sweep, each with its choice of the chart and the cells of its row."""
    return [
        {
            "choice": {"semantics": sweep["semantics"]} | {name: ratio.setting[name] for name in CHOICES[1:]},
            "cells": [
                MODEL_NAMES[ratio.model],
                f"{ratio.setting['resolution']:,}",
                f"{ratio.setting['batch_size']}",
                ratio.attention,
                *(_ratio(value) for value in (ratio.time, ratio.peak_memory, ratio.activations)),
            ],
        }
        for ratio in ratios(sweep["points"])
    ]


def _fit_row(row: pandas.Series) -> dict:
    attention = row["attention"] if isinstance(row["attention"], str) else ""
    model = MODEL_NAMES.get(row["model"], row["model"]) + f", {attention} attention" * bool(attention)
    cells = [
        model,
        QUANTITIES.get(row["quantity"], row["quantity"]),
        str(row["sizes"]),
        *(_interval(row, name) for name in COEFFICIENTS),
    ]
    return {
        "choice": {name: row[name] for name in CHOICES},
        "cells": [*cells, _interval(row, "local_slope"), f"{100 * row['largest_miss']:.1f}"],
    }


def _interval(row: pandas.Series, name: str) -> str:
    """Return a coefficient with its interval, as `0.119 [0.0687, 0.172]`."""
    value, low, high = (row[column] for column in (name, f"{name}_ci95_low", f"{name}_ci95_high"))
    if pandas.isna(value):
        return ""
    return f"{value:.3g}" + ("" if pandas.isna(low) else f" [{low:.3g}, {high:.3g}]")


def _ratio(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"
