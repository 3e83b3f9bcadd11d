"""`afmp verify`: the checks of a finished study."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_config_option, study_config


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the results folder of a finished study")
    add_config_option(parser, "the study that was run")
    add("--dataset", type=Path, required=True, metavar="FILE.safetensors", help="the prepared dataset of the study")
    add(
        "--deep", action="store_true", help="also evaluate the weights of every run again, and train --spot seeds again"
    )
    add("--spot", metavar="N", help="number of randomly drawn seeds to train again; 1 with --deep")
    add("--draw", metavar="SEED", help="random seed of that draw; its own each time")
    add("--archives", type=Path, default="archive", help="folder of archives; each expected.yaml in it is checked")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.depth import KEYS, read_depth
    from afmp.finished.verify import verify

    depth = read_depth({key: value for key in KEYS if (value := getattr(arguments, key)) is not None})
    config = study_config(arguments)
    verify(config, results=arguments.results, dataset=arguments.dataset, archives=[arguments.archives], depth=depth)


COMMAND = Command("verify", "Check a finished study and print one line per check.", _add_arguments, _run)
