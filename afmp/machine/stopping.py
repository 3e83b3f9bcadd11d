"""SIGTERM, which schedulers send some time before they kill: training ends after its epoch, with everything saved.

Only entry points listen, for as long as they train. Python runs signal handlers in the main thread, so the handler
leaves no more than a flag, and the threads that train read it.
"""

import logging
import signal
from contextlib import contextmanager

log = logging.getLogger("afmp")

# What a shell reports of a process that the signal ended, and schedulers expect.
EXIT_CODE = 128 + signal.SIGTERM

_asked = False


class Stopped(Exception):
    """Training ended early because it was asked to, and can go on from its checkpoints."""


@contextmanager
def stop_on_sigterm():
    """In this block SIGTERM only sets what `stop_asked` tells; Stopped ends the process with exit code 143.

    To be entered in the main thread.
    """
    global _asked
    before = signal.signal(signal.SIGTERM, lambda number, frame: ask_to_stop())
    try:
        yield
    except Stopped as stopped:
        log.info("%s", stopped)
        raise SystemExit(EXIT_CODE) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked = False


def ask_to_stop() -> None:
    """Have every thread that trains end after its epoch."""
    global _asked
    _asked = True


def stop_asked() -> bool:
    """Whether SIGTERM came."""
    return _asked
