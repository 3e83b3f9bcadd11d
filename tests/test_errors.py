"""Messages are printable: no name of a file, folder or class reaches a terminal or a log as it is."""

import pickle

import pytest

from afmp.cli import main
from afmp.data.image_folder import read_image_folder
from afmp.errors import AfmpError, one_line, printable
from afmp.log import log, log_to

ESCAPE, TITLE, TURNED, NEW_LINE = "\x1b[31mred", "\x1b]0;title\x07", "cat\u202egnp.exe", "a\nerror: b"
NAMES = {
    ESCAPE: r"\x1b[31mred",
    TITLE: r"\x1b]0;title\x07",
    TURNED: r"cat\u202egnp.exe",
    NEW_LINE: r"a\nerror: b",
    "\x9b2J": r"\x9b2J",
    "a\u2028b\u200bc\rd": r"a\u2028b\u200bc\rd",
    "猫 émeu": "猫 émeu",
}


@pytest.mark.promise("printable-names")
@pytest.mark.parametrize("name", NAMES, ids=NAMES.values())
def test_a_name_in_a_message_is_printable(tmp_path, capsys, name):
    assert printable(name) == NAMES[name]
    assert str(AfmpError(f"{name}: no such file")) == f"{NAMES[name]}: no such file"
    with pytest.raises(SystemExit), log_to(tmp_path / "log"):
        log.info("reads %s", name)
        raise AfmpError(f"{name}: no such file")
    with pytest.raises(SystemExit), log_to(tmp_path / "fault"):
        raise KeyError(name)
    for text in (capsys.readouterr().err, (tmp_path / "log").read_text()):
        assert NAMES[name] in text and (name == NAMES[name] or name not in text)
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert all(map(str.isprintable, (tmp_path / "fault").read_text().split("\n")))


@pytest.mark.promise("printable-names")
@pytest.mark.parametrize("name", [ESCAPE, TURNED, NEW_LINE])
def test_names_of_folders_and_files_reach_no_terminal_as_they_are(tmp_path, capsys, name):
    root = tmp_path / name
    (root / "train" / name).mkdir(parents=True)
    (root / "test" / "cat").mkdir(parents=True)
    with pytest.raises(AfmpError) as caught:
        read_image_folder(root, image_size=8)
    assert str(caught.value).isprintable()
    assert main(["prepare", "--config", str(root / "config.yaml"), "--output", str(tmp_path / "x")]) == 2
    assert all(map(str.isprintable, capsys.readouterr().err.splitlines()))


def test_lines_of_our_own_stay_lines_and_survive_another_process(tmp_path, capsys):
    error = AfmpError("first:", "  a\nb", "last")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "first:\n  a\\nb\nlast"
    with pytest.raises(SystemExit), log_to(tmp_path / "log"):
        raise error
    assert capsys.readouterr().err == "error: first:\n  a\\nb\nlast\n"


def test_an_exception_of_pytorch_becomes_one_line_without_colours():
    assert one_line(RuntimeError("\x1b[1mfile\x1b[0m\n is   damaged\x07")) == r"RuntimeError: file is damaged\x07"
