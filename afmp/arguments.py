"""Checks of what a caller passes: each names the argument, the value found and what is allowed."""

import math
from numbers import Integral, Real

from afmp.errors import AfmpError


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
