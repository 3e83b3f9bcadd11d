"""Progress messages: the same lines on the terminal and in a log file."""

import logging
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from afmp.errors import AfmpError, printable
from afmp.files import faults_of_the_machine
from afmp.process import Interrupted, escape_what_cannot_be_shown, interruptible

log = logging.getLogger("afmp")

# Set by the workflow while it shows the progress of its jobs: their terminal gets only warnings and errors.
ONLY_LOG_FILES = "AFMP_ONLY_LOG_FILES"


class _Lines(logging.Formatter):
    """One printable line per message, whatever names it contains, and a traceback of printable lines below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, info) -> str:
        return "\n".join(map(printable, super().formatException(info).split("\n")))


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk: stderr has the lines too, and the job's own files report the error."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def show_progress(path: Path | str | None = None):
    """Write the package's messages to stderr and, with `path`, to that file too.

    With ONLY_LOG_FILES in the environment and such a file, stderr gets only warnings and errors.
    """
    escape_what_cannot_be_shown()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(_Lines())
    if path is not None:
        with suppress(OSError):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            # Emptied without O_NONBLOCK, a pipe in its place would wait for a reader.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o666))
            # Opened for appending, so that two processes with one log do not overwrite each other's lines.
            handlers.append(_LogFile(path, mode="a", encoding="utf-8"))
            handlers[-1].setFormatter(_Lines("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
            if os.environ.get(ONLY_LOG_FILES):
                handlers[0].setLevel(logging.WARNING)
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
def log_to(path: Path | str | None):
    """Write progress to stderr and, with `path`, to that file, and exit with code 1 after an error.

    Both get the sentence of an AfmpError, and a traceback for any other error. After Ctrl-C or SIGTERM both get a
    sentence, and the exit code is 130 or 143. Slow imports belong inside the block, so that this holds for them too.
    """
    with show_progress(path):
        try:
            with interruptible(), faults_of_the_machine():
                yield
        except AfmpError as error:
            for line in f"error: {error}".split("\n"):
                log.error("%s", line)
            raise SystemExit(1) from None
        except Interrupted as interrupted:
            log.error("%s", interrupted)
            raise SystemExit(interrupted.exit_code) from None
        except Exception:
            log.exception("This is a fault of the program, not of its input:")
            raise SystemExit(1) from None
