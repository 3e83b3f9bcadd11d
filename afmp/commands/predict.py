"""`afmp predict`: the classes of images under trained weights."""

import argparse
import csv
import io
import json
from pathlib import Path

from afmp.commands.parsing import Command, Parser
from afmp.errors import check_whole_number, printable


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("weights", metavar="WEIGHTS", help="a .safetensors of a training or a release, or the name of a release")
    add(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE_OR_FOLDER",
        help="an image, or a folder: all images below it, sorted by name",
    )
    add("--top", type=int, default=5, help="most probable classes per image, at most all")
    add("--batch-size", type=int, metavar="SIZE", help="batch size of the training, where weights do not say it")
    add("--format", choices=FORMATS, default="table", help="json and csv have probabilities from 0 to 1")
    add("--output", type=Path, metavar="FILE", help="write to a file instead of the terminal")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.data.image_paths import image_paths
    from afmp.log import log
    from afmp.machine.device import resolve_device
    from afmp.model.prediction import predict_files
    from afmp.model.trained import load, weights_path
    from afmp.records import check_can_write, write_text

    check_whole_number("--top", arguments.top)
    if arguments.batch_size is not None:
        check_whole_number("--batch-size", arguments.batch_size)
    if arguments.output:
        check_can_write(arguments.output)
    weights = weights_path(arguments.weights)
    paths = image_paths(arguments.images)
    device = resolve_device("auto")
    model = load(weights, batch_size=arguments.batch_size).to(device)
    log.info("images to classify: %s (%s)", f"{len(paths):,}", device)
    # All of them before the first is shown: an image that cannot be read leaves no output that looks complete.
    text = FORMATS[arguments.format](list(predict_files(model, paths, top=arguments.top)))
    if arguments.output:
        write_text(arguments.output, text)
    else:
        print(text, end="")


def _table(predictions: list) -> str:
    """Return a line per image and class; the name of the image stands in the first of its lines."""
    rows = [
        (printable(path) if rank == 0 else "", printable(name), f"{100 * probability:.2f} %")
        for path, classes in predictions
        for rank, (name, probability) in enumerate(classes)
    ]
    file_width, class_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "".join(f"{file:{file_width}}  {name:{class_width}}  {percent:>8}\n" for file, name, percent in rows)


def _csv(predictions: list) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "rank", "class", "probability"))
    for path, classes in predictions:
        for rank, (name, probability) in enumerate(classes, start=1):
            writer.writerow((printable(path), rank, printable(name), _rounded(probability)))
    return text.getvalue()


def _json(predictions: list) -> str:
    content = [
        {
            "file": str(path),
            "predictions": [{"class": name, "probability": _rounded(probability)} for name, probability in classes],
        }
        for path, classes in predictions
    ]
    # In ASCII, so it needs no `printable`: escape sequences of JSON are read back as they were.
    return json.dumps(content, indent=2) + "\n"


def _rounded(probability: float) -> float:
    return float(f"{probability:.6g}")  # float32 has no more digits


FORMATS = {"table": _table, "csv": _csv, "json": _json}
COMMAND = Command("predict", "Name the most probable classes of images.", _add_arguments, _run)
