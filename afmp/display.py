"""Display of a long call: a few lines that stay at the foot of a terminal, and elsewhere one line now and then."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

LIVE_S = 0.5  # between two looks where there is a terminal
PLAIN_S = 5.0  # and elsewhere
NEWS_S, SILENCE_S = 120.0, 600.0  # between two lines elsewhere: if a job has finished, and if none has
MOST_LINES = 12  # of running jobs on a terminal


class Progress(Protocol):
    """What is shown: numbers, one line with the time left too, a line per running job, and a count that is news."""

    num_done: int

    def read(self) -> None: ...
    def numbers(self) -> str: ...
    def summary(self) -> str: ...
    def running(self) -> list[str]: ...


class Display:
    """Shows a progress until `stop`. Where there is no terminal, `say` writes one line."""

    def __init__(self, progress: Progress, *, say: Callable[[str], None]):
        self._progress, self._say = progress, say
        self._terminal = _terminal()
        self._said_at, self._said_of = -SILENCE_S, -1
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show_until_the_end, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say the last numbers, and give the terminal back. A second call does nothing."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            if self._terminal:
                self._terminal.close()
            self._say(self._progress.numbers())

    def _show_until_the_end(self) -> None:
        ended = False
        while not ended:
            with suppress(OSError):  # nobody reads any more, as after `| head`
                self._show()
            ended = self._ended.wait(LIVE_S if self._terminal else PLAIN_S)

    def _show(self) -> None:
        progress = self._progress
        progress.read()
        if self._terminal:
            self._terminal.show(progress.summary(), progress.running())
            return
        now, done = time.monotonic(), progress.num_done
        if now - self._said_at >= (NEWS_S if done != self._said_of else SILENCE_S):
            self._said_at, self._said_of = now, done
            what = "; ".join([progress.summary(), *_first(progress.running(), 2)])
            self._say(f"{time.strftime('%H:%M:%S')}  {what}")


def _first(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[:most], f"{len(lines) - most} more"]


def _terminal() -> "_Terminal | None":
    """Return the terminal of stderr; None if it is none, or one that cannot move its cursor."""
    try:
        from rich.console import Console

        console = Console(stderr=True)
        return _Terminal() if console.is_terminal and os.isatty(2) and not console.is_dumb_terminal else None
    except ImportError:  # an environment that only starts jobs
        return None


class _Terminal:
    """The lower lines of the terminal. What this process and its jobs write to stderr scrolls above them."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        sys.stderr.flush()
        # Jobs inherit stderr. From here on it is a pipe, so that their lines and the display cannot mix.
        self._file = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        console = Console(file=self._file, highlight=False)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        console.show_cursor(True)  # after `kill -9` nobody would show it again
        self._copier = threading.Thread(target=self._copy, args=(reader,), daemon=True)
        self._copier.start()

    def show(self, summary: str, running: list[str]) -> None:
        """Replace the lines."""
        from rich.text import Text

        lines = [summary, *(f"  {line}" for line in _first(running, MOST_LINES))]
        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)

    def close(self) -> None:
        """Remove the lines, after everything that was written above them, and make the terminal stderr again."""
        sys.stderr.flush()
        os.dup2(self._file.fileno(), 2)
        self._copier.join(timeout=2)  # a process that outlives its job keeps the pipe open
        with suppress(OSError):
            self._live.stop()

    def _copy(self, reader: int) -> None:
        from rich.text import Text

        with os.fdopen(reader, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                with suppress(OSError):  # the terminal is closed; whoever writes must not wait
                    self._live.console.print(Text.from_ansi(line.rstrip("\n")), soft_wrap=True)
