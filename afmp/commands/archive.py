"""`afmp archive`: the numbers, tables and figures of a finished study in a folder of their own."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_config_option, study_config


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the results folder of a finished study")
    parser.add_argument(
        "archive", type=Path, metavar="ARCHIVE", help="the folder to make, e.g. archive/2026-01-31-h200"
    )
    add_config_option(parser, "the study that was run")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.archive import write_archive
    from afmp.finished.unverified import refuse_unverified
    from afmp.study.paths import dataset_file
    from afmp.study.study import resolve_study

    config = study_config(arguments)
    dataset = arguments.results / dataset_file(resolve_study(config).dataset.source)
    refuse_unverified(config, results=arguments.results, dataset=dataset)
    write_archive(config, results=arguments.results, archive=arguments.archive)


COMMAND = Command("archive", "Archive the numbers, tables and figures of a finished study.", _add_arguments, _run)
