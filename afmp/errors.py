"""The one exception a person is meant to read."""


class AfmpError(ValueError):
    """One clear sentence: what was found, where, what is allowed, what to do. Shown without a traceback."""
