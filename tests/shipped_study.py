"""The configuration that the project ships, to be changed by tests."""

import yaml
from conftest import PROJECT

from afmp.errors import AfmpError

SHIPPED = yaml.safe_load((PROJECT / "config.yaml").read_text(encoding="utf-8"))


def complains(error: AfmpError, *, of: str) -> bool:
    """Return whether an error is one printable line about `of`, short enough to read."""
    said = str(error)
    return said.startswith(of) and said.isprintable() and len(said) < 800
