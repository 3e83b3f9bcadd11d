"""The one exception that a person is meant to read, and the checks and wordings that lead to it."""

import math
from numbers import Integral, Real

OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "cannot allocate memory", "_alloc_failed")


class AfmpError(ValueError):
    """One clear sentence: what was found, where, what is allowed, what to do. Shown without a traceback."""


def check_whole_number(name: str, value: object, *, minimum: int = 1) -> None:
    """AfmpError unless `value` is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise AfmpError(f"{name} is {value!r}: allowed is a whole number, {minimum} or more")


def check_number(name: str, value: object) -> None:
    """AfmpError unless `value` is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise AfmpError(f"{name} is {value!r}: allowed is a finite number, 0 or more")


def check_flag(name: str, value: object) -> None:
    """AfmpError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise AfmpError(f"{name} is {value!r}: allowed are True and False")


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """AfmpError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise AfmpError(f"{name} is {value!r}: allowed are {', '.join(allowed)}")


def one_line(error: BaseException) -> str:
    """An exception as one line of at most 500 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on the host or on any device.

    PyTorch says so with several types (torch.OutOfMemoryError, plain RuntimeError on the CPU and from
    cuBLAS), all of them RuntimeErrors, so the text decides.
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in text for phrase in OUT_OF_MEMORY_TEXTS)
    )
