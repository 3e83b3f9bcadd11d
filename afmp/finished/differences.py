"""Sentences about values that differ from what another file says."""

from collections.abc import Iterator


def differences(found: dict, expected: dict, source: str) -> Iterator[str]:
    """Yield a clause for each key of `expected` whose value in `found` is another; `source` says where from."""
    for key, value in expected.items():
        if found.get(key) != value:
            yield f"{key} is {shortened(found.get(key))}, {source} {shortened(value)}"


def shortened(value: object) -> str:
    """Return a value as text that fits into a line."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
