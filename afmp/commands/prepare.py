"""`afmp prepare`: the dataset of a study, ready for training."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_config_option, check_output, study_config


def _add_arguments(parser: Parser) -> None:
    from afmp.data.download import archive_folder
    from afmp.study.paths import DOWNLOAD_FOLDER, in_results

    add_config_option(parser, "the study, of which the section `dataset` is read")
    parser.add_argument(
        "--download-folder",
        type=Path,
        default=archive_folder(in_results(DOWNLOAD_FOLDER)),
        help="where downloaded archives are stored; AFMP_DATA_DIR sets the default",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE.safetensors", help="where to write the dataset"
    )


def _run(arguments: argparse.Namespace) -> None:
    from afmp.data.preparation import prepare_dataset
    from afmp.study.study import resolve_study

    check_output(arguments)
    dataset = vars(resolve_study(study_config(arguments)).dataset)
    prepare_dataset(dataset, arguments.output, download_folder=arguments.download_folder)


COMMAND = Command("prepare", "Download, check and convert the dataset of a study.", _add_arguments, _run)
