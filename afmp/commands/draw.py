"""`afmp draw`: figures from the results of a study."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_folder_argument
from afmp.errors import AfmpError, printable


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_folder_argument(parser)
    add("figures", nargs="*", metavar="FIGURE", help="names of figures, or `diagnostics`; all figures if none is named")
    add(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the figures, laid out as a results folder",
    )


def _run(arguments: argparse.Namespace) -> None:
    from afmp.finished.archive_figures import archive_drawings, draw_figure
    from afmp.finished.opened_archive import OpenedArchive
    from afmp.finished.results_folder import open_results
    from afmp.study.config_schema import did_you_mean

    opened, config = open_results(arguments.folder, configs=arguments.config)
    drawings = archive_drawings(opened.study)
    names = list(dict.fromkeys(drawing.name for drawing in drawings))
    for name in arguments.figures:
        if name not in names:
            hint = did_you_mean(name, names)
            raise AfmpError(f"FIGURE: {name!r} is no figure of {config}{hint}; allowed: {', '.join(names)}.")
    for drawing in drawings:
        if drawing.name in (arguments.figures or names):
            if isinstance(opened, OpenedArchive):
                draw_figure(opened, drawing, arguments.output)
            else:
                drawing.write(source=arguments.folder, folder=arguments.output)
            print(printable(arguments.output / drawing.files[0]))


COMMAND = Command("draw", "Draw all or some figures of a study from its results.", _add_arguments, _run)
