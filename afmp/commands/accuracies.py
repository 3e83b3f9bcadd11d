"""`afmp accuracies`: the test accuracy of every run of a study, as a table in plain text."""

import argparse
import io

from afmp.commands.parsing import Command, Parser, add_folder_argument
from afmp.errors import AfmpError
from afmp.study.paths import table_file

COLUMNS = ("study", "run", "label", "semantics", "n", "dataset", "test_accuracy_mean")
COLUMNS += ("test_accuracy_std", "test_accuracy_ci95_low", "test_accuracy_ci95_high")


def _add_arguments(parser: Parser) -> None:
    add_folder_argument(parser)


def _run(arguments: argparse.Namespace) -> None:
    import pandas

    from afmp.analysis.accuracies import accuracies_text
    from afmp.files import open_plain
    from afmp.finished.opened_archive import open_archive
    from afmp.finished.results_folder import is_archive, open_results

    path, advice = arguments.folder / table_file("summary"), "`snakemake tables` writes it again"
    if is_archive(arguments.folder):
        file = io.BytesIO(open_archive(arguments.folder).read_file(table_file("summary")))
        advice = "restore the archive"
    else:
        file = open_plain(path)
    with file:
        try:
            summary = pandas.read_csv(file, keep_default_na=False, na_values=[""])
        except ValueError as error:
            raise AfmpError(f"{path}: not a table in CSV ({error}); {advice}.") from None
    if missing := [name for name in COLUMNS if name not in summary]:
        raise AfmpError(f"{path}: the column {missing[0]} is missing; {advice}.")
    if summary.empty:
        raise AfmpError(f"{path}: there is no run in it; {advice}.")
    if arguments.config and not is_archive(arguments.folder):
        opened, config = open_results(arguments.folder, configs=arguments.config)
        runs = {(study["name"], member["run"]) for study in opened.study.studies for member in study["members"]}
        found = set(zip(summary["study"], summary["run"], strict=True))
        if other := sorted(map("/".join, found ^ runs)):
            raise AfmpError(f"{path}: not the table of {config}: {other[0]} is in one of them only; {advice}.")
    print(accuracies_text(summary))


COMMAND = Command("accuracies", "Show the test accuracy of every run of a study.", _add_arguments, _run)
