"""`afmp explain`: a picture of what trained weights did with one image, and the answer without messages."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser
from afmp.errors import AfmpError, check_whole_number, printable


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="a .safetensors of a training or a release, or the name of a release")
    add("image", type=Path, metavar="IMAGE", help="one image, of any kind that `afmp predict` reads")
    add("--output", type=Path, required=True, metavar="FILE.png", help="file for the picture")
    add("--batch-size", type=int, metavar="SIZE", help="batch size of the training, where weights do not say it")


def _run(arguments: argparse.Namespace) -> None:
    if arguments.batch_size is not None:
        check_whole_number("--batch-size", arguments.batch_size)
    if arguments.output.suffix != ".png":
        raise AfmpError(f"--output is {str(arguments.output)!r}: the picture is a PNG; give a name that ends in .png.")

    from afmp.figures.parts.plain_matplotlib import import_matplotlib
    from afmp.machine.device import resolve_device
    from afmp.model.explanation import explain_file
    from afmp.model.trained import load, weights_path
    from afmp.model.weights import read_about
    from afmp.records import check_can_write
    from afmp.study.semantics import RIVAL

    path = weights_path(arguments.weights)
    if arguments.image.is_dir():
        raise AfmpError(f"IMAGE: {str(arguments.image)!r} is a folder; give one image. `afmp predict` reads folders.")
    check_can_write(arguments.output)
    if read_about(path).get("semantics") == RIVAL:
        raise AfmpError(
            f"{path}: weights of a model of timm, which has no edges and no messages; only AFMP can be explained; "
            "`afmp predict` gives the answer."
        )
    model = load(path, batch_size=arguments.batch_size)
    explanation = explain_file(model.to(resolve_device("auto")), arguments.image)
    import_matplotlib()
    from afmp.figures.explanation import draw, in_words
    from afmp.figures.parts.style import save_figure

    save_figure(draw(explanation, name=arguments.image.name), png=arguments.output)
    print("\n".join(map(printable, in_words(explanation))))
    print(printable(arguments.output))


COMMAND = Command("explain", "Draw edges, errors and messages behind one answer.", _add_arguments, _run)
