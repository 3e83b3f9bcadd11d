"""The display of a long call: on a terminal, and where there is none."""

import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import PROJECT

from afmp import display

SHOW = """
import os, subprocess, sys, time
from afmp.display import Display

class Progress:
    num_done = 1
    read = lambda self: None
    numbers = lambda self: "1 of 2 runs trained"
    summary = lambda self: "1 of 2 runs trained, about 3 min left"
    running = lambda self: [f"run {number}" for number in range(20)]

shown = Display(Progress(), say=lambda line: print(line, file=sys.stderr, flush=True))
time.sleep(0.3)
job = "import sys; print('error: of a job, ' + 'x' * 300, file=sys.stderr); sys.exit(3)"
status = subprocess.run([sys.executable, "-c", job]).returncode
print("Error in rule train:", file=sys.stderr)
time.sleep(0.6)
shown.stop()
shown.stop()
print("status", status, os.isatty(2), file=sys.stderr)
"""


def shown_on_a_terminal(terminal: str) -> str:
    """Return what SHOW writes to a terminal of this type (TERM)."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TERM": terminal, "COLUMNS": "60", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW], stdout=theirs, stderr=theirs, stdin=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the process has ended
            break
        written += part
        if not part:
            break
    assert process.wait() == 0, written
    os.close(ours)
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_shows_the_lines_live_and_hides_nothing_else():
    written = shown_on_a_terminal("xterm")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "run 11" in plain and "8 more" in plain and "run 12" not in plain
    # What a job and this process write stands whole above the lines.
    assert "error: of a job, " + "x" * 300 + "\n" in plain and "Error in rule train:\n" in plain
    assert plain.endswith("1 of 2 runs trained\nstatus 3 True\n")
    # The lines are erased before the terminal is given back, and the cursor is there.
    assert "\x1b[2K" in written and written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines():
    written = shown_on_a_terminal("dumb")
    assert "\x1b" not in written and written.endswith("1 of 2 runs trained\nstatus 3 True\n")


@pytest.fixture
def plain(monkeypatch):
    """Return a function that gives the lines of a display without a terminal, for numbers of jobs done over time."""

    def lines(done_at: dict[float, int]) -> list[float]:
        said, clock = [], [0.0]
        monkeypatch.setattr(display.threading.Thread, "start", lambda thread: None)
        monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(display, "_terminal", lambda: None)
        progress = SimpleNamespace(
            read=lambda: None,
            summary=lambda: "summary",
            running=lambda: ["first", "second", "third", "fourth"],
            num_done=0,
        )
        shown = display.Display(progress, say=lambda line: said.append((clock[0], line)))
        for second in range(0, 3601, 5):
            clock[0] = float(second)
            progress.num_done = done_at.get(second, progress.num_done)
            shown._show()
        assert all(line.endswith("  summary; first; second; 2 more") for _, line in said)
        return [when for when, _ in said]

    return lines


def test_without_a_terminal_there_is_a_line_every_two_minutes_at_most(plain):
    assert plain({second: second for second in range(0, 3601, 5)}) == list(range(0, 3601, 120))


def test_without_a_terminal_and_news_there_is_a_line_every_ten_minutes(plain):
    assert plain({}) == list(range(0, 3601, 600))
    assert plain({700: 1}) == [0, 600, 720, 1320, 1920, 2520, 3120]
