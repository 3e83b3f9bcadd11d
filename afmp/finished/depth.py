"""How deep a verification goes: whether weights are evaluated again, and how many seeds are trained again."""

import random
from dataclasses import dataclass

from afmp.errors import AfmpError

KEYS = ("deep", "spot", "draw")


@dataclass(frozen=True)
class Depth:
    """deep: evaluate all weights again. spot: the number of seeds to train again. draw: the seed that draws them."""

    deep: bool = False
    spot: int = 0
    draw: int = 0


def read_depth(options: dict) -> Depth:
    """Return the depth that `--config deep=true spot=N draw=SEED` asks for; `options` has those of KEYS that are given.

    Values may be text, as a command line gives them. With deep, one seed is trained again unless `spot` says otherwise,
    and the draw is random unless `draw` gives its seed. Raises AfmpError with key, value and what is allowed.
    """
    deep = str(options.get("deep", False)).lower()
    if deep not in ("true", "false"):
        raise AfmpError(f"config: deep: found {options['deep']!r}; allowed: true or false.")
    numbers = {key: _whole(key, options[key]) for key in ("spot", "draw") if key in options}
    if deep == "false":
        if numbers:
            key, value = next(iter(numbers.items()))
            raise AfmpError(f"config: {key}: found {value}, but only a deep verification trains again; add deep=true.")
        return Depth()
    return Depth(True, numbers.get("spot", 1), numbers.get("draw", random.SystemRandom().randrange(10**6)))


def _whole(key: str, value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise AfmpError(f"config: {key}: found {value!r}; allowed: a whole number from 0 to 999999999.")
    return int(text)
