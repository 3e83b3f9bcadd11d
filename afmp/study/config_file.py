"""Configuration files: read completely, and refused by line where YAML would silently read something else."""

import json
import re
from pathlib import Path

import yaml

from afmp.errors import AfmpError
from afmp.files import read_plain

# The shipped configuration has 4 kB, 170 values and 6 levels. A file of this size takes half a second.
MAX_BYTES = 250_000
MAX_CHARACTERS = 1_000  # of one value
MAX_SHOWN = 150  # characters of PyYAML's message
MAX_VALUES = 100_000
MAX_LEVELS = 20
# YAML 1.1 reads 010 as an octal number and 1:30 as a number of base 60.
FOREIGN_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")
# A tag, as `!!set`, would build something that no JSON file can say. A date is refused later, as the wrong type.
PLAIN = ("null", "bool", "int", "float", "str", "timestamp", "seq", "map")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which stops before it is nested so deeply that Python stops it."""

    levels = 0

    def scan_flow_scalar(self, style):
        start = self.get_mark()
        try:
            return super().scan_flow_scalar(style)
        except (ValueError, OverflowError):  # PyYAML takes the number of any \\U for a character
            raise yaml.MarkedYAMLError(
                problem="found an escape \\U of no character; the largest is \\U0010FFFF", problem_mark=start
            ) from None

    def compose_node(self, parent, index):
        self.levels += 1
        if self.levels > MAX_LEVELS:
            raise yaml.MarkedYAMLError(
                problem=f"lists and mappings are nested too deeply; allowed: {MAX_LEVELS} levels",
                problem_mark=self.peek_event().start_mark,
            )
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


def read_config(path: Path | str) -> dict:
    """Return the content of a YAML (or JSON) file.

    Raises AfmpError as `config_of` does, and for what is no file, cannot be read, or has more than MAX_BYTES bytes.
    """
    return config_of(read_plain(path, max_bytes=MAX_BYTES), where=path)


def config_of(content: bytes, *, where: Path | str) -> dict:
    """Return what the bytes of a YAML (or JSON) file say; `where` names the file.

    Raises AfmpError naming file and line if it is not UTF-8, no YAML or no mapping, repeats a key, contains a tag, a
    number with a leading zero or colons, a value that YAML cannot build or that is longer than MAX_CHARACTERS, has more
    than MAX_LEVELS levels, or more than MAX_VALUES values, which takes only a few aliases.
    """
    # Before anything else is read of it: UTF-16 would be a file of NUL bytes.
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise AfmpError(
            f"{where}: line {line}: found the byte 0x{content[error.start]:02X}, which is not UTF-8; save the file as "
            "UTF-8."
        ) from None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        _check(root, where)
        try:
            config = json.loads(text)  # as Snakemake reads it: YAML would take "\ud83d\ude00" for two characters
        except ValueError:
            config = loader.construct_document(root) if root else None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, text.index(chr(error.character))) + 1
        raise AfmpError(
            f"{where}: not a YAML file: line {line}: found the character {chr(error.character)!a}; remove it, or write "
            "it as an escape in double quotes."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise AfmpError(f"{where}: not a YAML file: {place}{_short(error.problem or error.context)}.") from None

    if not isinstance(config, dict):
        raise AfmpError(f"{where}: found {repr(config)[:80]}; allowed: a mapping of keys to values.")
    if "__use_yte__" in config:
        raise AfmpError(
            f"{where}: __use_yte__: Snakemake would run the code in this file; write values, and remove this key."
        )
    return config


def _check(root: yaml.Node | None, path: Path | str) -> None:
    """Walk the composed file, following every alias, and raise AfmpError as `config_of` describes."""
    pending, count = [(root, "", 1)], 0
    while pending:
        node, name, level = pending.pop()
        count += 1
        at = f"{path}: line {node.start_mark.line + 1}{f': {name[:80]}' if name else ''}" if node else path
        if count > MAX_VALUES:
            raise AfmpError(f"{at}: the file has more than {MAX_VALUES:,} values; write it without aliases (*).")
        if level > MAX_LEVELS:
            raise AfmpError(f"{at}: a value that contains itself; write it without aliases (*).")
        if node and node.tag.rpartition(":")[2] not in PLAIN and not isinstance(node, yaml.ScalarNode):
            raise AfmpError(
                f"{at}: found the tag {_short(node.tag)}; allowed: lists, mappings, text and numbers, without tags."
            )
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                inner = f"{name}/{key.value}".lstrip("/")
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise AfmpError(f"{path}: line {line}: a key is a {key.id}; allowed: text.")
                _check_scalar(key, f"{path}: line {line}: a key")
                if key.value in lines:
                    raise AfmpError(f"{path}: {inner} appears twice, in lines {lines[key.value]} and {line}; keep one.")
                lines[key.value] = line
                pending.append((value, inner, level + 1))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, f"{name}/{index}", level + 1) for index, item in enumerate(node.value))
        elif isinstance(node, yaml.ScalarNode):
            _check_scalar(node, at)


def _check_scalar(node: yaml.ScalarNode, where: str) -> None:
    text = node.value
    if len(text) > MAX_CHARACTERS:
        raise AfmpError(f"{where}: found {len(text):,} characters, {text[:30]!r}...; allowed: {MAX_CHARACTERS:,}.")
    if node.tag.endswith((":int", ":float")) and FOREIGN_NUMBER.fullmatch(text):
        raise AfmpError(
            f"{where}: found {text}, which YAML reads as another number (a leading zero means octal, a colon means "
            "base 60); write the number in plain digits, or text in quotes."
        )
    try:
        if node.tag.rpartition(":")[2] not in PLAIN:
            raise ValueError(f"its tag is {node.tag}")
        yaml.constructor.SafeConstructor().construct_object(node)
    except Exception as error:
        # PyYAML's constructors raise many exception types for an invalid value: 2026-99-99, !!int x, !!bool x.
        problem = getattr(error, "problem", None) or error
        raise AfmpError(
            f"{where}: found {text[:80]!r}, which YAML cannot read ({_short(problem)}); put it in quotes."
        ) from None


def _short(problem) -> str:
    """Return the start of a message that repeats a tag or the name of an alias, which has any length."""
    text = str(problem)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
