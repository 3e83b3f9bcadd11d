"""`afmp scalars`: the course of every finished training as scalars for TensorBoard."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_folder_argument
from afmp.errors import AfmpError


def _add_arguments(parser: Parser) -> None:
    add_folder_argument(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the scalars")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.results_folder import open_results
    from afmp.study.paths import diagnostics_file, result_file, seed_name
    from afmp.training.tensorboard import check_tensorboard, write_scalars

    check_tensorboard()
    opened, _ = open_results(arguments.folder, configs=arguments.config)
    number = 0
    for semantics, run in opened.study.trainings:
        for seed in opened.study.seeds:
            paths = [file(semantics, run, seed) for file in (result_file, diagnostics_file)]
            if all(map(opened.has, paths)):
                records = opened.read_records(paths)
                write_scalars(arguments.output / semantics / run / seed_name(seed), *records.values())
                number += 1
    if not number:
        raise AfmpError(f"{arguments.folder}: none of the runs of the study has finished.")
    print(f"{number} trainings; to see them: tensorboard --logdir {arguments.output}")


COMMAND = Command("scalars", "Write the course of finished trainings for TensorBoard.", _add_arguments, _run)
