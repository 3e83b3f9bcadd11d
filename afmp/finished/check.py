"""One check of a finished study."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The subject of a check, and one sentence per fault found; None if the check does not apply."""

    subject: str
    faults: list[str] | None
