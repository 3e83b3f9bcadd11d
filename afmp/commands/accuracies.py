"""`afmp accuracies`: the test accuracy of every run of a study, as a table in plain text."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser
from afmp.errors import AfmpError
from afmp.study.paths import table_file

COLUMNS = ("study", "run", "label", "semantics", "n", "dataset", "test_accuracy_mean")
COLUMNS += ("test_accuracy_std", "test_accuracy_ci95_low", "test_accuracy_ci95_high")


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the results folder of a study, or an archive")


def _run(arguments: argparse.Namespace) -> None:
    import pandas

    from afmp.analysis.accuracies import accuracies_text
    from afmp.files import open_plain

    path = arguments.folder / table_file("summary")
    with open_plain(path) as file:
        try:
            summary = pandas.read_csv(file, keep_default_na=False, na_values=[""])
        except ValueError as error:
            raise AfmpError(f"{path}: not a table in CSV ({error}); `snakemake tables` writes it again.") from None
    if missing := [name for name in COLUMNS if name not in summary]:
        raise AfmpError(f"{path}: the column {missing[0]} is missing; `snakemake tables` writes it again.")
    if summary.empty:
        raise AfmpError(f"{path}: there is no run in it; `snakemake tables` writes it again.")
    print(accuracies_text(summary))


COMMAND = Command("accuracies", "Show the test accuracy of every run of a study.", _add_arguments, _run)
