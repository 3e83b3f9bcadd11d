"""Measuring processes end with their sweep, and Ctrl-C never reaches them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
PROJECT = FOLDER.parents[1]


@pytest.mark.promise("killed-sweep-resumes")
@pytest.mark.parametrize("ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_the_measuring_process_ends_with_the_sweep(tmp_path, ending):
    # Run as a workflow runs it: a script without a `__main__` guard.
    script = tmp_path / "measure.py"
    script.write_text(
        "import sys\n"
        "from afmp.benchmark.candidates import MODEL_BUILDERS\n"
        "from afmp.benchmark.settings import SweepSettings\n"
        "from afmp.benchmark.sweep import run_sweep\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "MODEL_BUILDERS['afmp_small'] = 'faulty_models:build_never'\n"
        "run_sweep(SweepSettings(resolutions=(32,), batch_size=(1,), device='cpu'))\n"
    )
    pid_file = tmp_path / "pid"
    environment = os.environ | {"AFMP_TEST_PID_FILE": str(pid_file), "PYTHONPATH": _python_path()}
    process = subprocess.Popen(
        [sys.executable, script, FOLDER], env=environment, stderr=subprocess.DEVNULL, cwd=PROJECT
    )
    try:
        assert _within(60, lambda: pid_file.exists() and pid_file.read_text()), "the point was never started"
        child = int(pid_file.read_text())
        process.send_signal(ending)
        assert process.wait(timeout=20) != 0
        assert _within(20, lambda: not _alive(child)), "the measuring process outlived the sweep"
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_ctrl_c_never_reaches_a_measuring_process():
    """Not even before its first line runs: the server that it is forked from has the signal blocked."""
    ask = "read -r _ _ _ server _ < /proc/$PPID/stat; sed -n 's/^Sig[BI][lg][kn]:\\t//p' /proc/{$server,$PPID}/status"
    # In an interpreter of its own: one server serves a process, and here other tests may have started it.
    code = f"""
        from afmp.machine.isolation import run_isolated
        print(run_isolated("subprocess:check_output", {{"args": ["bash", "-c", {ask!r}]}}).decode())
    """
    output = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True)
    blocked, _, _, ignored = (int(mask, 16) for mask in output.split())
    assert blocked & ignored & 1 << signal.SIGINT - 1


def _python_path() -> str:
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _within(seconds: float, condition) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
