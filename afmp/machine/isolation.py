"""One call in a process of its own: what it allocates, breaks or leaves behind ends with it.

The processes are forked from a server that has imported the heavy libraries once and done nothing else, so a
call pays neither for those imports nor for what the call before it left in an allocator. The server never
touches a GPU; its children may.
"""

import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
import types
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

from afmp.errors import AfmpError, is_out_of_memory, one_line

PRELOADED_MODULES = ["torch", "timm", "afmp.benchmark.measurement"]


class IsolatedCallError(RuntimeError):
    """The call raised or its process ended: why, in one line, and whether memory was the reason."""

    def __init__(self, message: str, *, out_of_memory: bool):
        super().__init__(message)
        self.out_of_memory = out_of_memory


def run_isolated(function: str, arguments: dict):
    """What `function` ("package.module:name") returns for keyword `arguments`, called in a fresh process.

    The process never outlives the call: it is killed when this call is left by an exception
    (KeyboardInterrupt too), and ends by itself when the calling process has gone. Arguments and return value
    must pickle. Raises IsolatedCallError.
    """
    context = _process_context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    try:
        with _without_main_module(), _deaf_to_ctrl_c():
            process.start()
        sender.close()
        try:
            kind, value = receiver.recv()
        except EOFError:
            process.join()
            kind, value = _how_it_ended(process.exitcode)
        # A driver can hang while it shuts down; the answer is already here, so the wait has an end.
        process.join(timeout=30)
    finally:
        if process.pid is not None and process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    if kind == "returned":
        return value
    raise IsolatedCallError(value, out_of_memory=kind == "oom")


def answer_of(function: str, arguments: dict):
    """What `run_isolated` returns, for a call that has to succeed: its failure is an AfmpError, in the same words."""
    try:
        return run_isolated(function, arguments)
    except IsolatedCallError as error:
        raise AfmpError(str(error).removeprefix("AfmpError: ")) from None


def _process_context():
    # On macOS a fork after such imports can crash in the system's libraries, so there each call imports anew.
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED_MODULES)
    return context


@contextmanager
def _without_main_module():
    # A child of multiprocessing runs the caller's main script once more. Scripts of a workflow have no
    # `__main__` guard, and would start the whole sweep again; nothing here needs the script, so the child is
    # not told of it.
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module


@contextmanager
def _deaf_to_ctrl_c():
    """SIGINT is blocked in what starts in here, and in what that forks: in its first moments, before it can ignore it,
    Ctrl-C would leave a traceback."""
    # The tracker, which starts with the first process, unblocks the signal, so it starts before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(sender, function: str, arguments: dict) -> None:
    # Ctrl-C reaches the whole group of processes; the calling one decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # When the host runs out of memory the kernel is to end this process, not the one that keeps the results.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        answer = ("returned", pkgutil.resolve_name(function)(**arguments))
    except Exception as error:  # whatever a call raises is its answer
        answer = ("oom" if is_out_of_memory(error) else "error", one_line(error))
    sender.send(answer)


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _how_it_ended(exit_code: int) -> tuple[str, str]:
    if exit_code == -signal.SIGKILL:
        return "oom", "The process was killed (SIGKILL), as the system does when its memory runs out."
    if exit_code < 0:
        return "error", f"The process was ended by {signal.Signals(-exit_code).name} before it could answer."
    return "error", f"The process ended with exit code {exit_code} before it could answer."
