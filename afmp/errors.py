"""Errors: the one exception that a person reads, checks of arguments that raise it, and other exceptions in words."""

import math
import re
from numbers import Integral, Real


def printable(text: object) -> str:
    """Return a text in which each character that shows nothing, or that a terminal obeys, is an escape sequence.

    Names of files and classes come from anywhere. Raw, an escape code in one could rewrite what a terminal shows, a
    line end could add a line to a log, and a mark for writing from right to left could turn a sentence around.
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))


class AfmpError(ValueError):
    """One clear sentence: what was found, where, what is allowed, what to do. It is shown without a traceback.

    Each argument is one line; nearly all errors have one. The text is `printable`, whatever a name in it contains.
    """

    def __str__(self) -> str:
        return "\n".join(map(printable, self.args))


def check_whole_number(name: str, value: object, *, minimum: int = 1) -> None:
    """Raise AfmpError unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise AfmpError(f"{name} is {value!r}: allowed is a whole number, {minimum} or more")


def check_number(name: str, value: object) -> None:
    """Raise AfmpError unless `value` is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise AfmpError(f"{name} is {value!r}: allowed is a finite number, 0 or more")


def check_flag(name: str, value: object) -> None:
    """Raise AfmpError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise AfmpError(f"{name} is {value!r}: allowed are True and False")


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise AfmpError unless `value` is one of `allowed`."""
    if value not in allowed:
        choices = ", ".join(each or "''" for each in allowed)
        raise AfmpError(f"{name} is {value!r}: allowed are {choices}")


def one_line(error: BaseException) -> str:
    """Return an exception as one printable line of at most 500 characters, without the colours that PyTorch writes."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", f"{type(error).__name__}: {error}")
    return printable(" ".join(text.split()))[:500]


_OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory", "_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on the host or on any device.

    PyTorch raises several types for it (torch.OutOfMemoryError, a plain RuntimeError on the CPU and from cuBLAS). All
    are RuntimeErrors, so the text decides.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in text for phrase in _OUT_OF_MEMORY_TEXTS)
    )
