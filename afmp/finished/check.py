"""Checks of a finished study, and the engine that makes one: whatever a file contains, a check ends in an outcome."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from afmp.errors import AfmpError, one_line
from afmp.files import open_plain


class NotCheckedError(Exception):
    """The reason why a check, or the rest of it, cannot be made."""


@dataclass(frozen=True)
class Check:
    """One check: its subject, a function that yields one sentence per fault, and the file or folder that it reads.

    The function may raise NotCheckedError.
    """

    subject: str
    find_faults: Callable[[], Iterable[str]]
    where: Path | str


@dataclass(frozen=True)
class Outcome:
    """What came of a check: the faults found, and the reason if it could not be made."""

    subject: str
    faults: list[str]
    not_checked: str | None = None


def make(check: Check) -> Outcome:
    """Make a check. An exception of any kind is a fault that names the file."""
    faults: list[str] = []
    try:
        faults.extend(guarded(check.find_faults, check.where))
    except NotCheckedError as reason:
        return Outcome(check.subject, faults, str(reason))
    return Outcome(check.subject, faults)


def guarded(find_faults: Callable[[], Iterable[str]], where: Path | str) -> Iterator[str]:
    """Yield the faults that a function finds; its exception, but NotCheckedError, becomes one more that names `where`.

    A file may contain anything: what a check did not expect must end neither the check of other files nor in a
    traceback.
    """
    try:
        yield from find_faults()
    except NotCheckedError:
        raise
    except Exception as error:
        yield fault_of(error, where)


def not_there(files: Iterable[Path]) -> Iterator[str]:
    """Yield a fault for each file that is missing, or that cannot be opened as a plain file."""
    for file in files:
        yield from guarded(lambda file=file: open_plain(file).close() or (), file)


def fault_of(error: Exception, where: Path | str) -> str:
    """Return an exception as a fault that names the file or folder `where`."""
    if isinstance(error, AfmpError):
        return str(error)
    return f"{where}: cannot be checked ({one_line(error)})"
