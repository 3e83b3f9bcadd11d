"""`afmp expect`: the ranges that a rerun of an archived study is checked against."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="the archive to write expected.yaml into")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.expected import write_expected

    write_expected(arguments.archive)


COMMAND = Command("expect", "Write the ranges that a rerun of an archived study is held to.", _add_arguments, _run)
