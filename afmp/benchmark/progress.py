"""Progress of an unfinished sweep: the file from which an interrupted sweep resumes."""

import json
from pathlib import Path

from afmp.records import atomic_path, with_checksum
from afmp.sources import import_closure, source_hash


class SweepProgress:
    """A file with one line for the conditions of a sweep, and one line per measured group of points.

    Points measured under other conditions (device, versions, protocol, code that measures) are not used.
    """

    def __init__(self, path: Path | str, conditions: dict) -> None:
        self.path = Path(path)
        self.done: dict[str, list[dict]] = {}
        self._first = json.dumps(conditions | {"code": _code_digest()}, sort_keys=True)
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines() if self.path.exists() else []
        if lines and lines[0] == self._first:
            groups = filter(None, map(_intact, lines[1:]))
            self.done = {group["of"]: group["outcomes"] for group in groups}

    def add(self, group: dict, outcomes: list[dict]) -> None:
        """Store the outcomes of one group; `group` is everything that identifies it."""
        self.done[_name(group)] = outcomes
        lines = [json.dumps(with_checksum({"of": name, "outcomes": stored})) for name, stored in self.done.items()]
        with atomic_path(self.path) as temporary:
            Path(temporary).write_text("\n".join([self._first, *lines]) + "\n", encoding="utf-8")

    def find(self, group: dict) -> list[dict] | None:
        """Return the outcomes of a group that was measured before, or None."""
        return self.done.get(_name(group))

    def remove(self) -> None:
        """Delete the file: the sweep is finished."""
        self.path.unlink(missing_ok=True)


def _intact(line: str) -> dict | None:
    # A line that the disk damaged is ignored, and its group measured again.
    try:
        group = json.loads(line)
        recorded = group.pop("checksum")
    except (ValueError, KeyError):
        return None
    return group if with_checksum(group)["checksum"] == recorded else None


def _name(group: dict) -> str:
    return json.dumps(group, sort_keys=True)


def _code_digest() -> str:
    return source_hash(import_closure("afmp.benchmark.measurement"))
