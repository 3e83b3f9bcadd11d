"""`afmp release`: the weights of a finished run as one small file with a model card."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser
from afmp.errors import printable
from afmp.model.trained import RELEASES


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the results folder of a study")
    add("run", metavar="RUN", help="name of a finished run")
    add("name", metavar="NAME", help="name of the release, and of its two files")
    add("--semantics", help="needed if the run was trained under several")
    add("--output", type=Path, default=RELEASES, metavar="FOLDER", help="folder for NAME.safetensors and NAME.md")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.release import write_release

    release = write_release(
        arguments.results, arguments.run, arguments.name, semantics=arguments.semantics, folder=arguments.output
    )
    print(
        f"seed {release.chosen['seed']}: test accuracy {release.test_accuracy:.2f} % as {release.stored_type}, files "
        f"{printable(arguments.output / release.name)}.safetensors and .md"
    )


COMMAND = Command("release", "Write the weights of a run and their model card.", _add_arguments, _run)
