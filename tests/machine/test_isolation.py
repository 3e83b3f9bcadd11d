"""Isolated calls: the server that they are forked from has the heavy imports."""

import subprocess
import sys

import pytest
from conftest import PROJECT

from afmp.errors import AfmpError
from afmp.machine.isolation import run_isolated

SWEEP_STARTS = """
from afmp.machine.isolation import run_isolated
run_isolated("afmp.benchmark.measurement:describe_device", {"device": "cpu"})
print(run_isolated("test_isolation:loaded", {"modules": ["torch", "timm", "pandas"]}))
"""


def loaded(*, modules: list[str]) -> list[str]:
    return [name for name in modules if name in sys.modules]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forks from a server")
def test_the_first_call_of_a_sweep_imports_the_libraries_once_for_all_later_calls():
    environment = {"PYTHONPATH": ":".join(str(PROJECT / folder) for folder in (".", "tests", "tests/machine"))}
    done = subprocess.run([sys.executable, "-c", SWEEP_STARTS], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "['torch', 'timm']", done.stderr


def test_an_error_for_a_person_keeps_its_words():
    with pytest.raises(AfmpError, match=r"^device: 'cuda:99' is not on this machine"):
        run_isolated("afmp.machine.device:resolve_device", {"name": "cuda:99"})
