"""The command line, `afmp COMMAND`. A new command is a file in commands/ and a name in `commands`."""

import os
import sys

from afmp import __version__
from afmp.errors import AfmpError
from afmp.files import faults_of_the_machine
from afmp.log import show_progress
from afmp.process import Interrupted, check_utf8, interruptible, restart_in_utf8


def commands() -> tuple:
    """Return all commands, in the order in which `--help` lists them."""
    from afmp.commands import (
        accuracies,
        archive,
        benchmark,
        claims,
        compare,
        draw,
        expect,
        explain,
        parameters,
        predict,
        prepare,
        release,
        scalars,
        train,
        verify,
    )

    modules = (
        *(prepare, train, benchmark, parameters, draw, accuracies, compare, claims),
        *(release, predict, explain, scalars, archive, expect, verify),
    )
    return tuple(module.COMMAND for module in modules)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 2, and one line on stderr, for an AfmpError."""
    name = "afmp"
    try:
        with interruptible(), faults_of_the_machine():
            if argv is None:
                restart_in_utf8("afmp")
            check_utf8()
            from afmp.commands.parsing import Parser, add_commands, parse

            parser = Parser(prog=name, description="Adaptive message passing between image patches.")
            parser.add_argument("--version", action="version", version=f"afmp {__version__}")
            add_commands(parser, commands())
            arguments = parse(parser, argv)
            name = arguments.parser.prog
            with show_progress():
                arguments.command.run(arguments)
                sys.stdout.flush()
    except AfmpError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except Interrupted as interrupted:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return interrupted.exit_code
    except BrokenPipeError:  # the reader of the output, as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
