"""Calls in processes of their own: memory, caches and crashes of one call cannot reach the next.

The processes are forked from one server, which imports the first called module once and does nothing else. So a call
pays neither for imports nor for what an earlier call left in an allocator. The server never touches a GPU; its
children may.
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
from afmp.machine.scratch import process_folder, temporary_files_in

# The path of a socket has at most 107 bytes on Linux and 103 on macOS. multiprocessing puts this below its folder.
LONGEST_SOCKET_FOLDER = 103 - len("/pymp-12345678/listener-12345678")


class IsolatedCallError(AfmpError):
    """The reason, in one line, why an isolated call failed or its process ended; and whether memory ran out."""

    def __init__(self, message: str, *, out_of_memory: bool):
        super().__init__(message)
        self.out_of_memory = out_of_memory


def run_isolated(function: str, arguments: dict):
    """Call `function` ("package.module:name") with keyword `arguments` in a fresh process and return its result.

    The process never outlives the call: it is killed if an exception (KeyboardInterrupt too) leaves this call, and
    exits when the calling process ends. Arguments and result must pickle. The server imports the module of the first
    `function` that a process calls, so that call should name a module with the heavy imports. Raises IsolatedCallError.
    """
    context = _process_context(function)
    socket_folder = process_folder(longest=LONGEST_SOCKET_FOLDER)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, function, arguments))
    try:
        with _without_main_module(), _sigint_blocked(), temporary_files_in(socket_folder):
            process.start()
        sender.close()
        try:
            kind, value = receiver.recv()
        except EOFError:
            process.join()
            kind, value = _reason_of_end(process.exitcode)
        # A driver can hang while it shuts down. The result is already here, so this wait is limited.
        process.join(timeout=30)
    finally:
        if process.pid is not None and process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    if kind == "returned":
        return value
    raise IsolatedCallError(value, out_of_memory=kind == "oom")


def _process_context(function: str):
    # On macOS a fork after heavy imports can crash in the system's libraries, so there each call imports anew.
    if not sys.platform.startswith("linux"):
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Read when the server starts, at the first call of this process; without effect later.
    context.set_forkserver_preload([function.partition(":")[0]])
    return context


@contextmanager
def _without_main_module():
    # A child of multiprocessing runs the caller's main script once more. Workflow scripts have no `__main__` guard
    # and would start the whole sweep again, so the child gets an empty main module.
    main_module = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main_module


@contextmanager
def _sigint_blocked():
    """Block SIGINT in the processes that start inside this block, and in their children.

    Before a child can ignore Ctrl-C, it would leave a traceback.
    """
    # The resource tracker starts with the first process and unblocks the signal, so it has to start earlier.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send_result(sender, function: str, arguments: dict) -> None:
    # Ctrl-C reaches the whole process group. The calling process decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # When the host runs out of memory, the kernel must end this process and not the one that keeps the results.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        result = ("returned", pkgutil.resolve_name(function)(**arguments))
    except Exception as error:  # every exception of a call is its result
        result = ("oom" if is_out_of_memory(error) else "error", one_line(error).removeprefix("AfmpError: "))
    sender.send(result)


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _reason_of_end(exit_code: int) -> tuple[str, str]:
    if exit_code == -signal.SIGKILL:
        return "oom", "The process was killed (SIGKILL), as the system does when its memory runs out."
    if exit_code < 0:
        return "error", f"The process was ended by {signal.Signals(-exit_code).name} before it could answer."
    return "error", f"The process ended with exit code {exit_code} before it could answer."
