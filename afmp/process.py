"""This process: text in UTF-8 whatever the locale says, and signals that end it with one sentence."""

import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from afmp.errors import AfmpError


def check_utf8() -> None:
    """Raise AfmpError if Python reads and writes the names of files in another encoding than UTF-8.

    The names of folders are bytes. They are UTF-8 for everybody else, and in another encoding a class would get another
    name.
    """
    if sys.getfilesystemencoding() != "utf-8":
        raise AfmpError(
            f"locale: Python reads the names of files as {sys.getfilesystemencoding()} here; set PYTHONUTF8=1, and "
            "start it without -X utf8=0, -E and -I, so that it reads them as UTF-8."
        )


def restart_in_utf8(program: str) -> None:
    """Start this command again in Python's UTF-8 mode if the locale has another encoding.

    Does nothing if this process is not `program` (the name of its file or of its package): nobody knows what another
    one has done before.
    """
    tried = os.environ.get("PYTHONUTF8") == "1"
    if sys.getfilesystemencoding() != "utf-8" and not tried and program in Path(sys.argv[0]).parts[-2:]:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def escape_what_cannot_be_shown() -> None:
    """Let the standard output escape a character that its encoding does not have, as the standard error does."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


class Interrupted(BaseException):
    """A signal asked this process to end: a sentence, and the exit code that a shell reports for it."""

    def __init__(self, number: int):
        what = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
        super().__init__(f"{what}; run the same command again to resume.")
        self.exit_code = 128 + number


@contextmanager
def interruptible():
    """Raise Interrupted when Ctrl-C or SIGTERM ends this block. A second signal ends the process at once.

    A signal that is ignored, as Ctrl-C is in the background of a shell, stays ignored. Enter the block in the main
    thread, and before slow imports.
    """
    received = []

    def interrupt(number, frame):
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    signals = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(*received[:1] or (signal.SIGINT,)) from None
    except Exception:
        # An import that is interrupted may end with another error.
        if received:
            raise Interrupted(received[0]) from None
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
