"""What a person watches while something long runs: the same lines on the terminal and in the rule's log file."""

import logging
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from afmp.errors import AfmpError

log = logging.getLogger("afmp")

# What a shell reports of a process that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT


class _LogFile(logging.FileHandler):
    """Says nothing where the disk is full: stderr has the lines too, and the files that the job is for fail aloud."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def show_progress(path: Path | str | None = None):
    """Send the package's messages to stderr and, with `path`, to that file too."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        with suppress(OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(b"")
            # Appended to: should two processes write one log, neither writes into the other's lines.
            handlers.append(_LogFile(path, mode="a", encoding="utf-8"))
            handlers[-1].setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


@contextmanager
def log_to(path: Path | str):
    """Progress to stderr and to the log of a rule; what goes wrong ends the process with exit code 1.

    An AfmpError leaves its one sentence, anything else a traceback too, in both places. Ctrl-C leaves a sentence, and
    exit code 130.
    """
    with show_progress(path):
        try:
            yield
        except AfmpError as error:
            log.error("error: %s", error)
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            log.error("interrupted; the same command goes on from what is saved.")
            raise SystemExit(INTERRUPTED) from None
        except Exception:
            log.exception("This is a fault of the program, not of its input:")
            raise SystemExit(1) from None
