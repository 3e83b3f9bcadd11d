"""The command line: help, version, and one sentence for each mistake."""

import json
import re
import subprocess
import sys

import pytest
from conftest import PROJECT

import afmp
from afmp import cli
from afmp.commands.benchmark import SUBCOMMANDS


def exit_of(*words: str, capsys) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command line that the parser ends."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words))
    return ended.value.code, *capsys.readouterr()


def test_version(capsys):
    assert exit_of("--version", capsys=capsys) == (0, f"afmp {afmp.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "commands"), [((), cli.commands()), (("benchmark",), SUBCOMMANDS)], ids=["afmp", "afmp benchmark"]
)
def test_help_has_one_line_per_command(capsys, monkeypatch, words, commands):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = exit_of(*words, "--help", capsys=capsys)
    assert status == 0
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    for command in commands:
        assert [command.name, command.summary] in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "afmp: expected one of the commands prepare, train, benchmark, "),
        ("measure", "afmp: expected one of the commands prepare, train, benchmark, "),
        ("benchmark", "afmp benchmark: expected one of the commands sweep, training, selection, profile; "),
        ("benchmark --resolutions 224", "afmp benchmark: expected one of the commands sweep, training, selection, "),
        ("benchmark --resolutions=224", "afmp benchmark: expected one of the commands sweep, training, selection, "),
        ("benchmark --training", "afmp benchmark: expected one of the commands sweep, training, selection, profile; "),
        ("benchmark training --attention plain", "afmp benchmark training: unknown argument '--attention'; "),
        ("benchmark selection --precision=bf16", "afmp benchmark selection: unknown argument '--precision=bf16'; "),
        ("benchmark profile --repeats 3", "afmp benchmark profile: unknown argument '--repeats'; "),
        ("benchmark sweep --res 64", "afmp benchmark sweep: unknown argument '--res'; "),
        ("train", "afmp train: the following arguments are required: --run, --dataset, --output"),
        ("train --semantics poem", "afmp train: argument --semantics: invalid choice: 'poem' "),
        ("compar", "afmp: expected one of the commands prepare, .* describes each \\(did you mean 'compare'\\?\\)$"),
        ("train --semantics refine", "afmp train: argument --semantics: .* \\(did you mean 'refined'\\?\\)$"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(capsys, words, message):
    status, out, err = exit_of(*words.split(), capsys=capsys)
    assert (status, out) == (2, "")
    assert re.match(message, err) and err.count("\n") == 1


@pytest.mark.parametrize("text", ["a", "", "64,-1", "6.4"])
def test_a_list_of_numbers_accepts_whole_numbers_only(capsys, text):
    status, _, err = exit_of("benchmark", "sweep", f"--resolutions={text}", capsys=capsys)
    assert status == 2
    assert f"--resolutions: found {text!r}; allowed: whole numbers with commas between them" in err


def test_help_does_not_import_torch():
    code = """
import json, sys
from afmp import cli
for words in (["--help"], ["train", "--help"], *(["benchmark", name, "--help"] for name in sys.argv[1:])):
    try:
        cli.main(words)
    except SystemExit:
        pass
print(json.dumps("torch" in sys.modules))
"""
    names = [command.name for command in SUBCOMMANDS]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) is False
