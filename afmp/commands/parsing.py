"""Parsing of the command line: commands, their parsers, and the types and options that several commands share."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """One command: its name, a line of help, a function that declares its arguments, and one that runs it.

    A command that only groups others declares them with `add_commands`, and has no function to run.
    """

    name: str
    summary: str
    add_arguments: Callable[["Parser"], None]
    run: Callable[[argparse.Namespace], None] | None = None


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the default of each option that has one, and one line per command."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        # argparse does not count the indent of commands, and would break the line after the longest name.
        if action.nargs == argparse.PARSER:
            self._action_max_length += self._indent_increment

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help if action.default is None else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, with exit status 2."""

    commands: Sequence[Command] = ()
    _is_intermixed = False
    _hint = ""

    def __init__(self, **options) -> None:
        super().__init__(formatter_class=_Help, allow_abbrev=False, **options)

    def parse_known_args(self, args=None, namespace=None) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, and take the words of a list of positionals also after an option.

        argparse would give `afmp draw RESULTS --output FOLDER FIGURE` an empty list of figures and an unknown argument.
        """
        has_list = any(action.nargs in ("*", "+") for action in self._get_positional_actions())
        if not has_list or self._is_intermixed or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._is_intermixed = True  # argparse calls this method again
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_intermixed = False

    def _check_value(self, action: argparse.Action, value) -> None:
        if action.choices and value not in action.choices:
            from afmp.study.config_schema import did_you_mean

            self._hint = did_you_mean(str(value), list(map(str, action.choices)))
        super()._check_value(action, value)

    def error(self, message: str) -> None:
        """Exit with one sentence on stderr. If a command is missing or unknown, it names the commands there are."""
        if self.commands:
            names = ", ".join(command.name for command in self.commands)
            message = f"expected one of the commands {names}; `{self.prog} --help` describes each"
        self.exit(2, f"{self.prog}: {message}{self._hint}\n")


def add_commands(parser: Parser, commands: Sequence[Command]) -> None:
    """Let one of the commands follow; the parsed arguments then have `command` and its `parser`."""
    parser.commands = commands
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for command in commands:
        subparser = subparsers.add_parser(command.name, help=command.summary, description=command.summary)
        subparser.set_defaults(command=command, parser=subparser)
        command.add_arguments(subparser)


def parse(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the words of a command line (sys.argv by default); wrong ones end the process with exit status 2."""
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        prog = arguments.parser.prog
        arguments.parser.error(f"unknown argument {unknown[0]!r}; `{prog} --help` lists the options of this command")
    return arguments


def words(text: str) -> list[str]:
    """Split a list with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def whole_numbers(text: str) -> list[int]:
    """Split a list of whole numbers with commas."""
    parts = words(text)
    if not parts or not all(map(str.isdecimal, parts)):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: whole numbers with commas between them, as 0,1,2")
    return list(map(int, parts))


def add_folder_argument(parser: Parser) -> None:
    """Add FOLDER, a results folder or an archive, and --config, as `open_results` of `afmp.finished` reads them."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the results folder of a study, or an archive")
    add_config_option(parser, "the study that was run (an archive has its own)")


def add_config_option(parser: Parser, description: str) -> None:
    """Add --config, the configuration files of a study, which `study_config` reads."""
    parser.add_argument(
        "--config",
        type=Path,
        action="append",
        metavar="FILE",
        help=f"{description}: a complete configuration or an overlay of config.yaml; may be given several times, each "
        "an overlay of those before it (default: config.yaml)",
    )


def study_config(arguments: argparse.Namespace) -> dict:
    """Return the configuration that --config names. Raises AfmpError as `read_configs` does."""
    from afmp.study.overlays import read_configs

    return read_configs(arguments.config)


def config_name(arguments: argparse.Namespace) -> str:
    """Return the names of the files of --config, for messages."""
    from afmp.study.overlays import file_names

    return file_names(arguments.config)


def add_output_option(parser: Parser, description: str) -> None:
    """Add --output, a file that `deliver` writes."""
    parser.add_argument("--output", type=Path, metavar="FILE.json", help=description)


def check_output(arguments: argparse.Namespace) -> None:
    """Raise AfmpError if --output is given and cannot be written, before any work."""
    from afmp.records import check_can_write

    if arguments.output:
        check_can_write(arguments.output)


def deliver(arguments: argparse.Namespace, content: dict, text: str, *, write: Callable[[Path, dict], None]) -> None:
    """Write the content to --output, if given, and print the text."""
    if arguments.output:
        write(arguments.output, content)
    print(text)
