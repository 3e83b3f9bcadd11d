"""Tables of a study and their captions: every epoch, means over random seeds, and differences paired by random seed."""

from itertools import pairwise

import numpy as np
import pandas as pd

from afmp.analysis import wording
from afmp.analysis.metrics import DIFFERENCE_METRICS, SUMMARY_METRICS, by_seed, metric_interval, select
from afmp.analysis.statistics import Interval, PairedDifference, paired_difference
from afmp.analysis.wording import distinct
from afmp.errors import AfmpError
from afmp.study.semantics import AFMP_SEMANTICS, RIVAL, SEMANTICS, semantics_of, trained_under

HISTORY_COLUMNS = {
    "train_loss": "train_loss",
    "train_acc": "train_acc",
    "val_acc": "val_acc",
    "sparsity_loss": "sparsity_loss",
    "time": "time_s",
}


def epochs_table(results) -> pd.DataFrame:
    """Return a tidy table with a row per semantics, run, seed and epoch: epochs from 1, accuracies in %, times in s."""
    keys = ["semantics", "run", "seed", "epoch"]
    frames = [
        pd.DataFrame(
            {
                "semantics": result["semantics"],
                "run": result["run"],
                "seed": result["seed"],
                "epoch": np.arange(1, len(result["training_history"]["time"]) + 1),
                **{column: result["training_history"][key] for key, column in HISTORY_COLUMNS.items()},
            }
        )
        for result in _in_order(results)
    ]
    columns = [*keys, *HISTORY_COLUMNS.values()]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def summary_table(results, studies) -> pd.DataFrame:
    """Return a table with a row per semantics, study and run: n, and mean, deviation and interval of each metric.

    A rival has one row in each of its studies, with the name of rivals as its semantics.
    """
    rows = []
    members = {
        (trained_under(member, semantics), study["name"], member["run"]): (study, member)
        for semantics, study in _semantics_and_studies(results, studies)
        for member in study["members"]
    }
    order = list(SEMANTICS).index
    for (semantics, _, _), (study, member) in sorted(members.items(), key=lambda item: order(item[0][0])):
        of_run = select(results, study, run=member["run"], semantics=semantics)
        row = {
            "semantics": semantics,
            "study": study["name"],
            "run": member["run"],
            "label": member["label"],
            "n": len(of_run),
        }
        for name in SUMMARY_METRICS:
            interval = metric_interval(of_run, name)
            row[f"{name}_mean"], row[f"{name}_std"] = float(interval.mean), float(interval.std)
            row[f"{name}_ci95_low"], row[f"{name}_ci95_high"] = float(interval.low), float(interval.high)
        row["num_parameters"] = distinct(str(result["num_parameters"]) for result in of_run)
        row["dataset"] = distinct(result["dataset"]["name"] for result in of_run)
        row["device"] = distinct(result["device"]["name"] for result in of_run)
        rows.append(row)
    return pd.DataFrame(rows)


def differences_table(results, studies) -> pd.DataFrame:
    """Return a table with a row per semantics, study, run and metric: run minus reference in percentage points.

    The pairs are the `n_pairs` seeds that both have. The reference itself has no row. A run that says `compare_with` is
    also compared with that run. A rival has a row for each semantics of its study.
    """
    rows = []
    for semantics, study in _semantics_and_studies(results, studies):
        found = {
            member["run"]: select(results, study, run=member["run"], semantics=trained_under(member, semantics))
            for member in study["members"]
        }
        pairs = [
            (member, reference)
            for member in study["members"]
            for reference in dict.fromkeys([study["reference"], member.get("compare_with", study["reference"])])
            if reference != member["run"]
        ]
        for member, reference in pairs:
            of_run, of_reference = found[member["run"]], found[reference]
            for name in DIFFERENCE_METRICS:
                difference = paired_difference(by_seed(of_run, name), by_seed(of_reference, name))
                rows.append(
                    {
                        "semantics": semantics,
                        "study": study["name"],
                        "run": member["run"],
                        "label": member["label"],
                        "reference": reference,
                        "metric": name,
                        "n_pairs": difference.n,
                        "mean_difference": difference.mean,
                        "std": difference.std,
                        "ci95_low": difference.low,
                        "ci95_high": difference.high,
                        "p_value": difference.p_value,
                    }
                )
    columns = ["semantics", "study", "run", "label", "reference", "metric", "n_pairs", "mean_difference"]
    return pd.DataFrame(rows, columns=[*columns, "std", "ci95_low", "ci95_high", "p_value"])


def _in_order(results) -> list[dict]:
    # A table does not depend on the order in which files were read.
    def key(result):
        return list(SEMANTICS).index(result["semantics"]), result["run"], result["seed"]

    ordered = sorted(results, key=key)
    for one, other in pairwise(ordered):
        if key(one) == key(other):
            raise AfmpError(
                f"run {one['run']!r}, seed {one['seed']}, {one['semantics']} semantics: given twice; "
                "give each result once."
            )
    return ordered


def _semantics_and_studies(results, studies):
    present = {result["semantics"] for result in _in_order(results)}
    return [
        (semantics, study)
        for semantics in AFMP_SEMANTICS
        for study in studies
        if semantics in semantics_of(study, list(AFMP_SEMANTICS))
        # A study without semantics of its own has those of which there are results.
        if present & {trained_under(member, semantics) for member in study["members"]}
    ]


def epochs_caption(table: pd.DataFrame) -> str:
    """Return the size and the range of an epochs table, in reStructuredText."""
    lengths = table.groupby(["semantics", "run", "seed"]).size()
    named = [semantics for semantics in table["semantics"].unique() if semantics != RIVAL]
    rivals = table.loc[table["semantics"] == RIVAL, "run"].nunique()
    parts = [f"under {' and '.join(named)} semantics"] * (len(named) > 0)
    parts += [f"{rivals} of timm"] * (rivals > 0)
    return wording.escape_rst(
        f"{wording.counted([len(table)], 'row')}: {wording.counted([table['run'].nunique()], 'run')} "
        f"{', '.join(parts)}, {wording.counted([table['seed'].nunique()], 'seed')}, "
        f"{wording.counted(lengths, 'epoch')} each; val_acc between {table['val_acc'].min():.2f} and "
        f"{table['val_acc'].max():.2f} %."
    )


def summary_caption(table: pd.DataFrame) -> str:
    """Return what a summary table is based on and the highest mean of each semantics, in reStructuredText."""

    def named(column: str) -> str:
        return distinct(name for cell in table[column] for name in cell.split("; "))

    sentences = [
        f"{wording.counted([table['run'].nunique()], 'run')} with {wording.counted(table['n'], 'seed')} each, "
        f"dataset {named('dataset')}, on {named('device')}."
    ]
    for semantics, rows in table.groupby("semantics", sort=False):
        # Means of equal accuracies may differ in their last bits.
        means = rows["test_accuracy_mean"].round(9)
        leaders = rows[means == means.max()].drop_duplicates("run")
        best = leaders.iloc[0]
        numbers = (best[f"test_accuracy_{part}"] for part in ("mean", "std", "ci95_low", "ci95_high"))
        accuracy = wording.with_interval(Interval(*numbers, best["n"]))
        sentences.append(
            f"Highest mean test accuracy {wording.under(semantics)}: {accuracy}, "
            f"run{'s' * (len(leaders) > 1)} {', '.join(leaders['run'])}. "
            f"{wording.validation_words(semantics).selection}"
        )
    return wording.escape_rst(" ".join(sentences))


def differences_caption(table: pd.DataFrame) -> str:
    """Return how many test accuracies differ from their reference, and the largest difference, in reStructuredText."""
    sentences = []
    for semantics, rows in table[table["metric"] == "test_accuracy"].groupby("semantics", sort=False):
        columns = ["mean_difference", "std", "ci95_low", "ci95_high", "n_pairs", "p_value"]
        differences = [(row, PairedDifference(*(row[column] for column in columns))) for _, row in rows.iterrows()]
        excluded = sum(bool(paired.excludes_zero) for _, paired in differences)
        missing = sum(paired.excludes_zero is None for _, paired in differences)
        of_all = f"Test accuracy under {semantics} semantics: of {wording.counted([len(differences)], 'difference')}, "
        if missing == len(differences):
            sentences.append(f"{of_all}none with an interval, which takes {wording.FEWEST_SEEDS} seeds.")
        else:
            sentences.append(
                f"{of_all}{excluded} with an interval that excludes 0"
                + f" and {missing} without an interval" * (missing > 0)
                + f", {wording.UNCORRECTED}" * (len(differences) > 1)
                + "."
            )
        differences = [(row, paired) for row, paired in differences if paired.n]
        if differences:
            largest = max(round(abs(paired.mean), 9) for _, paired in differences)
            tied = [(row, paired) for row, paired in differences if round(abs(paired.mean), 9) == largest]
            row, paired = tied[0]
            as_large = ", ".join(f"{other['run']} minus {other['reference']}" for other, _ in tied[1:])
            sentences.append(
                f"Largest difference: {row['run']} minus {row['reference']} ({row['study']}), "
                f"{wording.difference(paired)}{f'; as large: {as_large}' if as_large else ''}."
            )
    return wording.escape_rst(" ".join(sentences) or "No study has a run besides its reference.")
