"""Measured points of a sweep: the file from which an interrupted sweep resumes, and a repeated one is written again."""

import json
from pathlib import Path

from afmp.files import MissingFileError, read_plain
from afmp.records import MAX_RECORD_BYTES, atomic_path, with_checksum
from afmp.sources import import_closure, source_hash


class SweepProgress:
    """A file with one line per measured group of points. Each states the conditions under which it was measured.

    Points measured under other conditions (device, versions, protocol, code that measures) are not used, but stay: the
    conditions may return.
    """

    def __init__(self, path: Path | str, conditions: dict) -> None:
        self.path = Path(path)
        self._conditions = conditions | {"code": source_hash(import_closure("afmp.benchmark.measurement"))}
        try:
            lines = read_plain(self.path, max_bytes=MAX_RECORD_BYTES).decode("utf-8", errors="replace").splitlines()
        except MissingFileError:
            lines = []
        self._groups = {_name(group["under"], group["of"]): group for group in filter(None, map(_intact, lines))}

    def add(self, group: dict, outcomes: list[dict]) -> None:
        """Store the outcomes of one group; `group` is everything that identifies it."""
        name = _name(self._conditions, group)
        self._groups[name] = {"under": self._conditions, "of": group, "outcomes": outcomes}
        self._write()

    def find(self, group: dict) -> list[dict] | None:
        """Return the outcomes of a group that was measured before, or None."""
        found = self._groups.get(_name(self._conditions, group))
        return found and found["outcomes"]

    def finish(self) -> None:
        """Forget the failed points: what failed for once is measured again when the sweep is repeated."""
        failed = [
            name
            for name, group in self._groups.items()
            if any(outcome["status"] != "ok" for outcome in group["outcomes"])
        ]
        for name in failed:
            del self._groups[name]
        if failed:
            self._write()

    def _write(self) -> None:
        lines = [json.dumps(with_checksum(group)) for group in self._groups.values()]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _intact(line: str) -> dict | None:
    # A line that the disk damaged is ignored, and its group measured again.
    try:
        group = json.loads(line)
        recorded = group.pop("checksum")
        complete = group.keys() >= {"under", "of", "outcomes"}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    return group if complete and with_checksum(group)["checksum"] == recorded else None


def _name(conditions: dict, group: dict) -> str:
    return json.dumps([conditions, group], sort_keys=True)
