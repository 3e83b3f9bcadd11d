"""Configuration files: read completely, and refused by line where YAML would silently read something else."""

import re
from pathlib import Path

import yaml

from afmp.errors import AfmpError

MAX_CHARACTERS = 1_000
MAX_VALUES = 100_000
# YAML 1.1 reads 010 as an octal number and 1:30 as a number of base 60.
FOREIGN_NUMBER = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)")


def read_config(path: Path | str) -> dict:
    """Return the content of a YAML (or JSON) file.

    Raises AfmpError naming file and line if the file does not exist, is no YAML or no mapping, repeats a key, or
    contains a number with a leading zero or colons, a value that YAML cannot build or that is longer than
    MAX_CHARACTERS, or more than MAX_VALUES values, which takes only a few aliases.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        _check(yaml.compose(text, Loader=yaml.SafeLoader), path)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise AfmpError(f"{path}: no such file.") from None
    except OSError as error:
        raise AfmpError(f"{path}: cannot be read ({error.strerror}); give a YAML file.") from None
    except RecursionError:
        raise AfmpError(f"{path}: lists and mappings are nested too deeply; a configuration has five levels.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise AfmpError(f"{path}: not a YAML file: {where}{error.problem or error.context}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AfmpError(f"{path}: not a YAML file: {' '.join(str(error).split())}.") from None

    if not isinstance(content, dict):
        raise AfmpError(f"{path}: found {repr(content)[:80]}; allowed: a mapping of keys to values.")
    return content


def _check(root: yaml.Node | None, path: Path | str) -> None:
    """Walk the composed file, following every alias, and raise AfmpError as `read_config` describes."""
    pending, count = [(root, "")], 0
    while pending:
        node, where = pending.pop()
        count += 1
        if count > MAX_VALUES:
            raise AfmpError(
                f"{path}: {where[:80]}: the file has more than {MAX_VALUES:,} values, or one that contains itself; "
                "write it without aliases (*)."
            )
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name = f"{where}/{key.value}".lstrip("/")
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise AfmpError(f"{path}: line {line}: a key is a {key.id}; allowed: text.")
                _check_scalar(key, f"{path}: line {line}: a key")
                if key.value in lines:
                    raise AfmpError(f"{path}: {name} appears twice, in lines {lines[key.value]} and {line}; keep one.")
                lines[key.value] = line
                pending.append((value, name))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, f"{where}/{index}") for index, item in enumerate(node.value))
        elif isinstance(node, yaml.ScalarNode):
            _check_scalar(node, f"{path}: line {node.start_mark.line + 1}: {where}")


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
        yaml.constructor.SafeConstructor().construct_object(node)
    except Exception as error:
        # PyYAML's constructors raise many exception types for an invalid value: 2026-99-99, !!int x, !!bool x.
        problem = getattr(error, "problem", None) or error
        raise AfmpError(
            f"{where}: found {text[:80]!r}, which YAML cannot read ({problem}); put it in quotes."
        ) from None
