"""The command line, `afmp COMMAND`. A new command is a file in commands/ and a name in COMMANDS."""

import sys

from afmp import __version__
from afmp.commands import archive, benchmark, draw, expect, parameters, prepare, train, verify
from afmp.commands.parsing import Parser, add_commands, parse
from afmp.errors import AfmpError
from afmp.log import INTERRUPTED, show_progress

COMMANDS = tuple(module.COMMAND for module in (prepare, train, benchmark, parameters, draw, archive, expect, verify))


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 2, and one line on stderr, for an AfmpError."""
    parser = Parser(prog="afmp", description="Adaptive message passing between image patches.")
    parser.add_argument("--version", action="version", version=f"afmp {__version__}")
    add_commands(parser, COMMANDS)
    arguments = parse(parser, argv)
    name = arguments.parser.prog
    try:
        with show_progress():
            arguments.command.run(arguments)
    except AfmpError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
