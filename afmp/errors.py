"""Errors: the one exception that a person reads, checks of arguments that raise it, and other exceptions in words."""

import math
from numbers import Integral, Real


class AfmpError(ValueError):
    """One clear sentence: what was found, where, what is allowed, what to do. It is shown without a traceback."""


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
        raise AfmpError(f"{name} is {value!r}: allowed are {', '.join(allowed)}")


def one_line(error: BaseException) -> str:
    """Return an exception as one line of at most 500 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


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
