"""`afmp parameters`: the trainable parameters and the FLOPs of each model."""

import argparse

from afmp.commands.parsing import Command, Parser, add_output_option, check_output, deliver


def _add_arguments(parser: Parser) -> None:
    parser.add_argument("--num-classes", type=int, default=100, help="classes of every model")
    parser.add_argument("--resolution", type=int, default=224, help="pixels, for the models of the sweep")
    add_output_option(parser, "where to write the counts")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.analysis.parameter_table import parameters_table
    from afmp.benchmark.parameters import count_parameters
    from afmp.records import write_parameters

    check_output(arguments)
    parameters = count_parameters(arguments.num_classes, arguments.resolution)
    text = parameters_table(parameters).to_string(
        index=False, formatters=dict.fromkeys(["num_parameters", "flops"], "{:,}".format)
    )
    deliver(arguments, parameters, text, write=write_parameters)


COMMAND = Command("parameters", "Count parameters and FLOPs of the compared models.", _add_arguments, _run)
