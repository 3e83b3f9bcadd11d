"""The schemas of files that a person writes: values get the types of the schema, and every mistake has one message."""

import difflib
import math
import re
from collections.abc import Sequence

import jsonschema

from afmp.errors import AfmpError
from afmp.records import schema


def validated(config: dict, kind: str = "config") -> dict:
    """Return a copy of `config`, checked against schemas/<kind>.schema.yaml, with numbers of the types of the schema.

    Raises AfmpError with the key, the value and what is allowed, for a key that is unknown or missing and for a value
    of the wrong type or out of range.
    """
    config = _with_numbers(config, schema(kind), f"{kind}:")
    errors = filter(_is_mistake, jsonschema.Draft202012Validator(schema(kind)).iter_errors(config))
    # The outermost mistake first: it may be the reason for others inside it.
    error = min(errors, key=lambda e: (len(e.absolute_path), str(e.absolute_path)), default=None)
    if error is not None:
        raise AfmpError(f"{kind}: {_run_of(error, config)}{_message(error, kind)}")
    return config


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a hint at the known name that is spelt most alike, to be put after an unknown one; empty if none is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _with_numbers(value, fragment: dict, where: str):
    """Return `value` with its numbers and flags as `fragment` of the schema types them, and all else unchanged."""
    if isinstance(value, dict):
        known = _properties(fragment)
        others = fragment.get("additionalProperties") or {}
        return {
            key: _with_numbers(item, known.get(key, others), f"{where}/{_name(key)}") for key, item in value.items()
        }
    if isinstance(value, list):
        items = fragment.get("items", {})
        return [_with_numbers(item, items, f"{where}/{index}") for index, item in enumerate(value)]
    kind = fragment.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    # Numbers and flags may come as text: Snakemake's `--config 'training={epochs: 3}'` makes text of all values, and
    # YAML 1.1 reads 1e-3, without a dot, as text.
    if "boolean" in kinds and value in ("true", "false"):
        return value == "true"
    if not {"number", "integer"} & set(kinds):
        return value
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,100}(\.[0-9]*)?([eE][-+]?[0-9]+)?", value):
        value = float(value) if re.search("[.eE]", value) else int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise AfmpError(f"{where.replace(':/', ': ', 1)}: found {value}; allowed: finite numbers.")
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)  # JSON schema counts 100.0 as an integer, but range() does not
    return value


def _properties(fragment: dict) -> dict:
    """Return the keys of a fragment of the schema and of its references, each with its own fragment."""
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
    # For one wrong value, jsonschema also calls all neighbouring keys unevaluated.
    return error.validator != "unevaluatedProperties" or bool(_unknown_keys(error))


def _run_of(error: jsonschema.ValidationError, config: dict) -> str:
    """Return the start of the message about a line of a study: the name of its run, unless that is the mistake."""
    match list(error.absolute_path):
        case ["studies", study, "runs", index, *rest] if rest != ["run"]:
            line = config["studies"][study]["runs"][index]
            if isinstance(line, dict) and isinstance(line.get("run"), str):
                return f"run {_short(line['run'])}, "
    return ""


def _message(error: jsonschema.ValidationError, kind: str) -> str:
    where = "/".join(map(_name, error.absolute_path))
    inside = f"{where}/" if where else ""
    if error.validator in ("additionalProperties", "unevaluatedProperties"):
        known = list(_properties(error.schema))
        unknown = _unknown_keys(error)[0]
        hint = did_you_mean(str(unknown), known)
        return (
            f"{inside}{_name(unknown)}: unknown key with value {_short(error.instance[unknown])}{hint}; "
            f"allowed here: {', '.join(known)}."
        )
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"{inside}{missing}: missing; add it as {kind}.yaml of the project has it."
    of_list = error.validator == "enum" and isinstance(error.instance, str)
    hint = did_you_mean(error.instance, list(map(str, error.schema["enum"]))) if of_list else ""
    return f"{where or 'the whole file'}: found {_short(error.instance)}{hint}; allowed: {_allowed(error)}."


def _name(key) -> str:
    text = str(key)
    return text if text.isprintable() and len(text) <= 80 else _short(text)


def _short(value) -> str:
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(error: jsonschema.ValidationError) -> str:
    fragment = error.schema
    if "enum" in fragment:
        return ", ".join(map(str, fragment["enum"]))
    if error.validator == "uniqueItems":
        return "each value once"
    if error.validator == "pattern":
        return fragment["$comment"]  # the schema explains the pattern in words
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
    members = fragment.get("items", {}).get("enum")
    names["array"] += f" of {', '.join(members)}" if members else ""
    parts = [" or ".join(names.get(kind, kind) for kind in kinds)]
    parts += [f"{word} {fragment[key]}" for key, word in bounds.items() if key in fragment]
    return ", ".join(parts)
