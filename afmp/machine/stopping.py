"""SIGTERM as a request to stop: long work ends at its next safe point, with everything saved.

Schedulers send SIGTERM some time before they kill a process. Only entry points listen for it. Python runs signal
handlers in the main thread, so the handler only sets a flag, and worker threads read the flag.
"""

import logging
import signal
from contextlib import contextmanager

log = logging.getLogger("afmp")

# The exit code that a shell reports for a process ended by SIGTERM, and that schedulers expect.
EXIT_CODE = 128 + signal.SIGTERM

_requested = False


class Stopped(Exception):
    """Work ended early on request. It is saved and can resume."""


@contextmanager
def stop_on_sigterm():
    """Inside this block SIGTERM only makes `stop_requested` true, and Stopped ends the process with exit code 143.

    Enter it in the main thread.
    """
    global _requested
    before = signal.signal(signal.SIGTERM, lambda number, frame: request_stop())
    try:
        yield
    except Stopped as stopped:
        log.info("%s", stopped)
        raise SystemExit(EXIT_CODE) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        _requested = False


def request_stop() -> None:
    """Ask every thread of this process to stop at its next safe point."""
    global _requested
    _requested = True


def stop_requested() -> bool:
    """Return whether this process was asked to stop."""
    return _requested
