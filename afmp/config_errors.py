"""config.yaml against its schema: numbers as the schema means them, and one message for every mistake."""

import difflib
import math
import re
from pathlib import Path

import jsonschema
import yaml

from afmp.errors import AfmpError
from afmp.records import schema


def refuse_duplicate_keys(path: Path | str) -> None:
    """Raise AfmpError if a mapping of the YAML file names a key twice: YAML would silently keep the last."""
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise AfmpError(f"{path}: no such file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AfmpError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    pending = [(root, "")]
    while pending:
        node, where = pending.pop()
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name = f"{where}/{key.value}".lstrip("/")
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise AfmpError(f"{path}: {name} stands twice, in lines {lines[key.value]} and {line}; keep one.")
                lines[key.value] = line
                pending.append((value, name))
        elif isinstance(node, yaml.SequenceNode):
            pending.extend((item, f"{where}/{index}") for index, item in enumerate(node.value))


def validated(config: dict) -> dict:
    """A copy of `config` that keeps to schemas/config.schema.yaml, whole numbers as int wherever it wants an integer.

    Raises AfmpError with the key, the value and what is allowed: a key that the schema does not know or misses, a value
    of the wrong type or out of range.
    """
    config = _with_numbers(config, schema("config"), "")
    errors = filter(_is_mistake, jsonschema.Draft202012Validator(schema("config")).iter_errors(config))
    # The outermost mistake first: a missing section explains what is wrong inside it.
    error = min(errors, key=lambda e: (len(e.absolute_path), str(e.absolute_path)), default=None)
    if error is not None:
        raise AfmpError(f"config: {_message(error)}")
    return config


def _with_numbers(value, fragment: dict, where: str):
    """`value` with its numbers as `fragment` of the schema means them; what is no number there stays as it is."""
    if isinstance(value, dict):
        known = _properties(fragment)
        others = fragment.get("additionalProperties") or {}
        return {key: _with_numbers(item, known.get(key, others), f"{where}/{key}") for key, item in value.items()}
    if isinstance(value, list):
        items = fragment.get("items", {})
        return [_with_numbers(item, items, f"{where}/{index}") for index, item in enumerate(value)]
    if fragment.get("type") not in ("number", "integer"):
        return value
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)  # YAML 1.1 reads 1e-3 (without a dot) as text; a person means the number
    if isinstance(value, float) and not math.isfinite(value):
        raise AfmpError(f"config: {where.lstrip('/')}: found {value}; allowed: finite numbers.")
    if fragment["type"] == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)  # JSON schema counts 100.0 as an integer, but range() does not
    return value


def _properties(fragment: dict) -> dict:
    """The keys that a fragment of the schema knows, its references followed, each with its own fragment."""
    known: dict = {}
    pending = [fragment]
    while pending:
        fragment = pending.pop(0)
        known |= fragment.get("properties", {})
        if "$ref" in fragment:
            pending.append(schema("config")["$defs"][fragment["$ref"].rsplit("/", 1)[1]])
        pending.extend(fragment.get("allOf", []))
    return known


def _unknown_keys(error: jsonschema.ValidationError) -> list:
    known = _properties(error.schema)
    return [key for key in error.instance if key not in known]


def _is_mistake(error: jsonschema.ValidationError) -> bool:
    # A wrong value makes jsonschema call all keys beside it unevaluated too, though only the value is wrong.
    return error.validator != "unevaluatedProperties" or bool(_unknown_keys(error))


def _message(error: jsonschema.ValidationError) -> str:
    where = "/".join(map(str, error.absolute_path))
    inside = f"{where}/" if where else ""
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        known = list(_properties(error.schema))
        unknown = _unknown_keys(error)[0]
        close = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        return (
            f"{inside}{unknown}: unknown key with value {_short(error.instance[unknown])}{hint}; "
            f"allowed here: {', '.join(known)}."
        )
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{inside}{missing}: missing; add it as config.yaml of the project has it."
    return f"{where or 'the whole file'}: found {_short(error.instance)}; allowed: {_allowed(error)}."


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(error: jsonschema.ValidationError) -> str:
    fragment = error.schema
    if "enum" in fragment:
        return ", ".join(map(str, fragment["enum"]))
    if error.validator == "uniqueItems":
        return "each value once"
    if error.validator == "pattern":
        return fragment["$comment"]  # the pattern in words, beside it in the schema
    kinds = fragment.get("type", "a value")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    names = {
        "object": "a mapping of keys", "array": "a list", "integer": "a whole number", "number": "a number",
        "boolean": "true or false", "string": "text (in quotes if it looks like a number)",
    }  # fmt: skip
    bounds = {
        "minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than",
        "minItems": "length at least", "minProperties": "entries at least", "minLength": "length at least",
        "maxLength": "length at most", "multipleOf": "a multiple of",
    }  # fmt: skip
    parts = [" or ".join(names.get(kind, kind) for kind in kinds)]
    parts += [f"{word} {fragment[key]}" for key, word in bounds.items() if key in fragment]
    return ", ".join(parts)
