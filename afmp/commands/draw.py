"""`afmp draw`: figures from the results of a study."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_config_option, config_name, study_config
from afmp.errors import AfmpError, printable


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the results folder of a study")
    add("figures", nargs="*", metavar="FIGURE", help="names of figures, or `diagnostics`; all figures if none is named")
    add_config_option(parser, "the study that was run")
    add("--output", type=Path, required=True, metavar="FOLDER", help="folder for the figures, laid out as RESULTS")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.figures.catalogue import figures, last_diagnostics
    from afmp.study.study import resolve_elsewhere

    study = resolve_elsewhere(study_config(arguments)).to_dict()
    drawings = [*figures(study), *last_diagnostics(study)]
    names = list(dict.fromkeys(drawing.name for drawing in drawings))
    for name in arguments.figures:
        if name not in names:
            raise AfmpError(f"FIGURE: {name!r} is no figure of {config_name(arguments)}; allowed: {', '.join(names)}.")
    for drawing in drawings:
        if drawing.name in (arguments.figures or names):
            drawing.write(source=arguments.results, folder=arguments.output)
            print(printable(arguments.output / drawing.files[0]))


COMMAND = Command("draw", "Draw all or some figures of a study from its results.", _add_arguments, _run)
