"""`afmp verify`: the checks of a finished study, or of an archive."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_config_option, study_config
from afmp.errors import AfmpError


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the results folder of a finished study, or an archive")
    add_config_option(parser, "the study that was run (an archive has its own)")
    add(
        "--dataset",
        type=Path,
        metavar="FILE.safetensors",
        help="the prepared dataset of the study; required for a results folder, not used for an archive",
    )
    add(
        "--deep", action="store_true", help="also evaluate the weights of every run again, and train --spot seeds again"
    )
    add("--spot", metavar="N", help="number of randomly drawn seeds to train again; 1 with --deep")
    add("--draw", metavar="SEED", help="random seed of that draw; its own each time")
    add("--archives", type=Path, default="archive", help="folder of archives; each expected.yaml in it is checked")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.archive_checks import verify_archive
    from afmp.finished.depth import KEYS, read_depth
    from afmp.finished.results_folder import is_archive
    from afmp.finished.verify import verify

    if is_archive(arguments.folder):
        if arguments.deep or arguments.spot or arguments.draw:
            raise AfmpError("--deep, --spot, --draw: an archive has no weights to evaluate or train again; omit them.")
        verify_archive(arguments.folder)
        return
    if arguments.dataset is None:
        raise AfmpError(
            f"--dataset: missing; {str(arguments.folder)!r} is no archive (it has no MANIFEST.json); the check of a "
            "results folder needs the prepared dataset, FILE.safetensors."
        )
    depth = read_depth({key: value for key in KEYS if (value := getattr(arguments, key)) is not None})
    config = study_config(arguments)
    verify(config, results=arguments.folder, dataset=arguments.dataset, archives=[arguments.archives], depth=depth)


COMMAND = Command("verify", "Check a finished study or an archive.", _add_arguments, _run)
