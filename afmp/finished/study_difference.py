"""The first difference between a recorded study, or a part of one, and what its configuration gives."""

import reprlib


def study_difference(derived, recorded, key: str = "") -> str | None:
    """Return in words where `recorded` first says something else than config.yaml gives, below `key`; None if nowhere.

    A home folder in the place of the ~ of dataset/path is no difference: another machine has another one.
    """
    if isinstance(derived, dict) and isinstance(recorded, dict):
        if unlike := sorted(derived.keys() ^ recorded.keys()):
            where = "/".join(filter(None, [key, unlike[0][:80]]))
            return f"{where} is missing" if unlike[0] in derived else f"{where} is not in config.yaml"
        pairs = [(derived[name], recorded[name], "/".join(filter(None, [key, name]))) for name in derived]
    elif isinstance(derived, list) and isinstance(recorded, list) and len(derived) == len(recorded):
        pairs = [(*pair, f"{key}/{index}") for index, pair in enumerate(zip(derived, recorded, strict=True))]
    # Python holds 1, 1.0 and True for equal.
    elif (type(derived), derived) == (type(recorded), recorded) or _is_home(derived, recorded, key):
        return None
    else:
        found, expected = (reprlib.repr(value)[:80] for value in (recorded, derived))
        return f"{key or 'the whole file'} is {found}, but config.yaml gives {expected}"
    return next(filter(None, (study_difference(*pair) for pair in pairs)), None)


def _is_home(derived, recorded, key: str) -> bool:
    if not key.endswith("dataset/path") or not isinstance(derived, str) or not isinstance(recorded, str):
        return False
    home, slash, inside = derived.partition("/")
    return home.startswith("~") and recorded.startswith("/") and recorded.endswith(f"{slash}{inside}")
