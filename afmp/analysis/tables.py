"""Tables of results: how any table is written, its caption, the parameter counts (the sweep: scalability_tables)."""

from pathlib import Path

import pandas

from afmp.analysis import wording
from afmp.analysis.statistics import Interval, PairedDifference, distinct
from afmp.records import atomic_path, write_text

TABLE_STYLE = """<!DOCTYPE html>
<meta charset="utf-8">
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; }
table { border-collapse: collapse; }
th, td { padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { position: sticky; top: 0; background: #f4f4f4; border-bottom: 2px solid #888; }
td:first-child, td:nth-child(2), td:nth-child(3) { text-align: left; }
</style>
"""


def write_csv(table: pandas.DataFrame, path: Path | str) -> None:
    """Write a table atomically: six significant digits, empty where missing, lines ended by a line feed."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", na_rep="", lineterminator="\n", encoding="utf-8")


def write_html(table: pandas.DataFrame, path: Path | str) -> None:
    """Write the same table as a page for the report, four significant digits."""
    body = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
    write_text(path, TABLE_STYLE + body + "\n")


def parameters_table(parameters: dict):
    """A parameters file's content as a pandas DataFrame: a row for each model."""
    columns = ["model", "description", "resolution", "num_classes", "num_parameters"]
    return pandas.DataFrame(parameters["models"]).assign(num_classes=parameters["num_classes"])[columns]


def epochs_caption(table: pandas.DataFrame) -> str:
    """How much an epochs table holds, in reStructuredText."""
    lengths = table.groupby(["semantics", "run", "seed"]).size()
    return wording.restructured(
        f"{wording.counted([len(table)], 'row')}: {wording.counted([table['run'].nunique()], 'run')} under "
        f"{' and '.join(table['semantics'].unique())} semantics, {wording.counted([table['seed'].nunique()], 'seed')}, "
        f"{wording.counted(lengths, 'epoch')} each; val_acc between {table['val_acc'].min():.2f} and "
        f"{table['val_acc'].max():.2f} %."
    )


def summary_caption(table: pandas.DataFrame) -> str:
    """What a summary table was computed from and each semantics' highest mean, in reStructuredText."""

    def named(column: str) -> str:
        return distinct(name for cell in table[column] for name in cell.split("; "))

    sentences = [
        f"{wording.counted([table['run'].nunique()], 'run')} with {wording.counted(table['n'], 'seed')} each, "
        f"dataset {named('dataset')}, on {named('device')}."
    ]
    for semantics, rows in table.groupby("semantics", sort=False):
        # The mean of equal counts may vary in its last bits.
        means = rows["test_accuracy_mean"].round(9)
        leaders = rows[means == means.max()].drop_duplicates("run")
        best = leaders.iloc[0]
        numbers = (best[f"test_accuracy_{part}"] for part in ("mean", "std", "ci95_low", "ci95_high"))
        accuracy = wording.with_interval(Interval(*numbers, best["n"]))
        sentences.append(
            f"Highest mean test accuracy under {semantics} semantics: {accuracy}, "
            f"run{'s' * (len(leaders) > 1)} {', '.join(leaders['run'])}. "
            f"{wording.SELECTION[semantics]}"
        )
    return wording.restructured(" ".join(sentences))


def differences_caption(table: pandas.DataFrame) -> str:
    """How many test accuracies differ from their reference's and which most, in reStructuredText."""
    sentences = []
    for semantics, rows in table[table["metric"] == "test_accuracy"].groupby("semantics", sort=False):
        columns = ["mean_difference", "std", "ci95_low", "ci95_high", "n_pairs", "p_value"]
        found = [(row, PairedDifference(*(row[column] for column in columns))) for _, row in rows.iterrows()]
        sentences.append(
            f"Test accuracy under {semantics} semantics: of {wording.counted([len(found)], 'difference')}, "
            f"{sum(bool(paired.excludes_zero) for _, paired in found)} with an interval that excludes 0"
        )
        without = sum(paired.excludes_zero is None for _, paired in found)
        sentences[-1] += f" and {without} without an interval" if without else ""
        sentences[-1] += f", {wording.UNCORRECTED}." if len(found) > 1 else "."
        found = [(row, paired) for row, paired in found if paired.n]
        if found:
            largest = max(round(abs(paired.mean), 9) for _, paired in found)
            tied = [(row, paired) for row, paired in found if round(abs(paired.mean), 9) == largest]
            row, paired = tied[0]
            sentences.append(
                f"The largest: {row['run']} minus {row['reference']} ({row['study']}), {wording.difference(paired)}"
            )
            as_large = ", ".join(f"{other['run']} minus {other['reference']}" for other, _ in tied[1:])
            sentences[-1] += f"; as large: {as_large}." if as_large else "."
    return wording.restructured(" ".join(sentences) or "No study has a run beside its reference.")


def parameters_caption(parameters: dict) -> str:
    """The counts and the ratio of the two models of the sweep, in reStructuredText."""
    counts = {model["model"]: model["num_parameters"] for model in parameters["models"]}
    listed = "; ".join(f"{model['description']}: {model['num_parameters']:,}" for model in parameters["models"])
    ratio = counts["afmp_small"] / counts["deit_tiny"]
    return wording.restructured(
        f"Parameters with {parameters['num_classes']} classes. {listed}. AFMP-Small / DeiT-Tiny = {ratio:.3f}."
    )
