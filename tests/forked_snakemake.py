"""Calls of Snakemake in forks of one process that has imported it: the import takes most of a dry run's time."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

# What Snakemake and the workflow import later; but nothing of this project, of which each folder has its own copy.
PRELOADED = (
    "docutils.core",
    "filelock",
    "jinja2",
    "jsonschema",
    "nbformat",
    "PIL.Image",
    "requests",
    "smart_open",
    "yte",
)


def call_snakemake(folder: Path, arguments: Sequence, environment: dict[str, str]) -> tuple[int, str]:
    """Do what `python -m snakemake` does in a folder, and return its exit code and its output, both streams in one."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
        call = {"folder": str(folder), "arguments": [*map(str, arguments)], "environment": environment}
        print(json.dumps(call | {"output": output.name}), file=_server().stdin, flush=True)
        return int(_server().stdout.readline()), output.read()


@cache
def _server() -> subprocess.Popen:
    """Start the process, once per process of the tests. It ends with the tests, because its input does."""
    command = [sys.executable, "-E", __file__]  # without PYTHONPATH: each folder has its own package
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> None:
    for name in PRELOADED:
        import_module(name)
    main = import_module("snakemake.cli").main
    for line in sys.stdin:
        if child := os.fork():
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        else:
            call = json.loads(line)
            output = os.open(call["output"], os.O_WRONLY)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the calls are not for the jobs
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ.clear()
            os.environ.update(call["environment"])
            os.chdir(call["folder"])
            sys.path[0] = call["folder"]  # as for `python -m`
            sys.argv[1:] = call["arguments"]
            main()


if __name__ == "__main__":
    _serve()
