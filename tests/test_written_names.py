"""Names and rights of written files: names that are too long, umasks that take everything, parts of killed writers."""

import errno
import os
import subprocess
import sys

import pytest
from conftest import PROJECT

from afmp import cli
from afmp.errors import AfmpError
from afmp.log import log_to
from afmp.records import atomic_path, check_can_write, read_json, write_json, write_text

LONG = {"ASCII": "x" * 251 + ".csv", "two bytes": "ü" * 127, "four bytes": "𝛼" * 63 + "."}
TOO_LONG = {"one more": "x" * 256, "300": "x" * 300, "two bytes": "ü" * 128}


@pytest.mark.promise("long-names")
@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
def test_a_file_may_have_the_longest_name_that_the_system_allows(name, tmp_path):
    for text in ("old", "new"):
        write_text(tmp_path / name, text)
        assert (tmp_path / name).read_text() == text and os.listdir(tmp_path) == [name]


@pytest.mark.promise("long-names")
@pytest.mark.parametrize("name", TOO_LONG.values(), ids=TOO_LONG)
@pytest.mark.parametrize("where", ["{}", "{}/file.json", "a/{}/b/c.json"])
def test_a_name_that_no_file_can_have_is_refused_before_the_work(name, where, tmp_path):
    path = tmp_path / where.format(name)
    with pytest.raises(AfmpError, match=r"x|ü.*: cannot be written \(File name too long\); .* choose another name"):
        check_can_write(path)
    with pytest.raises(AfmpError, match=r"cannot be written \(File name too long\)"), atomic_path(path):
        raise AssertionError("the work began")


@pytest.mark.promise("long-names")
@pytest.mark.parametrize(
    "command",
    [
        "train --run dense --dataset {digits} --output {folder}/" + "x" * 300,
        "benchmark sweep --resolutions 16 --batch-size 1 --device cpu --output {folder}/" + "x" * 300 + ".json",
        "benchmark selection --resolutions 16 --batch-size 1 --device cpu --output {folder}/taken/y.json",
        "benchmark training --device cpu --output {folder}",
        "parameters --output /proc/no/y.json",
        "prepare --output {folder}/" + "ü" * 128,
    ],
)
def test_a_command_refuses_an_output_that_cannot_be_written_before_it_works(command, digits_file, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    words = command.format(digits=digits_file, folder=tmp_path).split()
    if words[0] in ("train", "prepare"):
        words += ["--config", str(PROJECT / "config.yaml")]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("afmp "), err
    assert "cannot be written" in err or "is a folder" in err
    assert os.listdir(tmp_path) == ["taken"]


def test_to_ask_whether_a_file_can_be_written_leaves_nothing(tmp_path):
    check_can_write(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "old", "content")
    check_can_write(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "content" and os.listdir(tmp_path) == ["old"]


@pytest.mark.promise("no-partial-file")
def test_the_next_writer_in_a_folder_removes_the_parts_of_killed_ones_whatever_their_names(tmp_path):
    for part in (".other.csv.a1b2c3d4.part", ".ü.12345678.part"):
        (tmp_path / part).write_text("half")
    (tmp_path / ".hidden").write_text("kept")
    write_text(tmp_path / "file", "whole")
    assert sorted(os.listdir(tmp_path)) == [".hidden", "file"]


WRITE = "import sys; from afmp.records import write_json; write_json(sys.argv[1], {'a': 1})"


@pytest.mark.promise("any-umask")
@pytest.mark.parametrize("umask", [0o777, 0o377, 0o277, 0o677, 0o022])
def test_written_files_and_folders_can_be_read_and_written_by_their_user(umask, tmp_path):
    path = tmp_path / "folder" / "inner" / "file.json"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", WRITE, path], check=True, umask=umask, cwd=PROJECT)
    assert read_json(path) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask | 0o600
    for folder in path.parents[:2]:
        assert folder.stat().st_mode & 0o777 == 0o777 & ~umask | 0o700
    write_json(path, {"a": 2})


@pytest.mark.promise("faults-of-the-machine")
@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EIO, errno.ESTALE])
def test_a_file_that_the_system_refuses_anywhere_is_one_sentence(number, tmp_path, capsys):
    with pytest.raises(SystemExit), log_to(tmp_path / "log"):
        raise OSError(number, os.strerror(number), str(tmp_path / "ü"))
    sentence = f"error: {tmp_path}/ü: cannot be used ({os.strerror(number)}); mend this, or choose another file."
    assert capsys.readouterr().err == f"{sentence}\n"


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "No such file", "x"), OSError(errno.EIO, "no name")])
def test_a_file_that_the_program_misses_is_a_fault_of_the_program(error, tmp_path, capsys):
    with pytest.raises(SystemExit), log_to(tmp_path / "log"):
        raise error
    assert "This is a fault of the program" in capsys.readouterr().err
