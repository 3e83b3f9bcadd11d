"""Files that are no plain files: each is refused at once, in one sentence that says what stands there."""

import os
import socket

import pytest

from afmp import records
from afmp.errors import AfmpError
from afmp.files import MissingFileError, is_there, open_plain, read_plain, read_plain_text


def a_socket(path):
    # A socket's path has at most 107 characters, so it is bound by a relative one.
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(path.parent)
        bound.bind(path.name)
        os.chdir(here)


NO_FILES = {
    "folder": (lambda path: path.mkdir(), "file: is a folder, where a plain file belongs; move it away"),
    "pipe": (os.mkfifo, "file: is a pipe, where"),
    "socket": (a_socket, "file: is a socket, where"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "file: is a device, where"),
    "link to a pipe": (lambda path: (os.mkfifo(path.with_name("p")), path.symlink_to("p")), "file: is a pipe"),
    "link to itself": (lambda path: path.symlink_to(path), "file: is a broken link, which leads back to itself"),
    "broken link": (lambda path: path.symlink_to("/nowhere/x"), "file: is a broken link: /nowhere/x does not exist"),
    "nothing": (lambda path: None, "file: no such file"),
    "too large": (lambda path: os.truncate(path.open("w").name, 1 << 40), "file: refused unread: it has 1,099,511,627"),
}


@pytest.mark.promise("no-plain-file")
@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, kind):
    make, message = NO_FILES[kind]
    make(tmp_path / "file")
    for read in (lambda path: read_plain(path, max_bytes=100), records.read_result):
        with pytest.raises(AfmpError, match=message):
            read(tmp_path / "file")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "file/inside"])
def test_a_name_that_no_file_can_have_is_a_missing_file(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MissingFileError, match="no such file"):
        open_plain(f"{tmp_path}/{name}")
    assert not is_there(f"{tmp_path}/{name}")


def test_a_file_is_read_to_its_last_byte_and_never_further(tmp_path):
    (tmp_path / "a").write_bytes("é\r\nb\rc".encode())
    assert read_plain_text(tmp_path / "a", max_bytes=7) == "é\nb\nc"
    with pytest.raises(AfmpError, match="it has 7 bytes, and at most 6 are read"):
        read_plain(tmp_path / "a", max_bytes=6)
    with pytest.raises(AfmpError, match="it has more than 6 bytes"):  # the system tells 0 for its size
        read_plain("/proc/self/status", max_bytes=6)


@pytest.mark.promise("permissions")
def test_missing_permission_is_called_so(powerless):
    (powerless / "closed").mkdir()
    for path in (powerless / "file", powerless / "closed" / "file"):
        path.write_text("x")
    (powerless / "file").chmod(0)
    (powerless / "closed").chmod(0o600)
    with pytest.raises(AfmpError, match=r"file: cannot be read \(Permission denied\); make it readable for this user"):
        open_plain(powerless / "file")
    assert is_there(powerless / "file") and not is_there(powerless / "other")
    for read in (open_plain, is_there, records.read_result):
        with pytest.raises(AfmpError, match=r"folder \S+/closed may not be entered \(Permission") as caught:
            read(powerless / "closed" / "file")
        assert not isinstance(caught.value, MissingFileError)
