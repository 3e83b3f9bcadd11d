"""The accuracies of a whole study in plain text: a block per study, a line per run, a column per semantics."""

import pandas

from afmp.analysis import wording
from afmp.analysis.comparison import aligned
from afmp.analysis.printed_tables import TEST_ACCURACY
from afmp.errors import printable
from afmp.study.font import as_seen


def accuracies_text(summary: pandas.DataFrame) -> str:
    """Return the test accuracies of a summary table, in percent, and a line that says what the numbers are."""
    semantics = list(summary["semantics"].unique())
    columns = [[""], *([name] for name in semantics)]
    for study, rows in summary.groupby("study", sort=False):
        for column, cell in zip(columns, [study, *("" for _ in semantics)], strict=True):
            column.append(cell)
        for _, of_run in rows.groupby("run", sort=False):
            columns[0].append(f"  {as_seen(of_run['label'].iloc[0])}")
            cells = {
                row["semantics"]: wording.mean_of_row(row, *TEST_ACCURACY, n=row["n"], form=".2f")
                for _, row in of_run.iterrows()
            }
            for column, name in zip(columns[1:], semantics, strict=True):
                column.append(cells.get(name, ""))
    counts = set(summary["n"])
    values = f"mean [95 % interval, Student's t] over {wording.counted(sorted(counts), 'random seed')}"
    if min(counts) < wording.FEWEST_SEEDS:
        values = (
            "the value of each random seed" if max(counts) < wording.FEWEST_SEEDS else f"{values}, each value below 3"
        )
    notes = f"Test accuracy at the best epoch, %: {values}. Dataset: {wording.distinct(summary['dataset'])}."
    return "\n".join(map(printable, [*aligned(columns, num_words=1), "", notes]))
