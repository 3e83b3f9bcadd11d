"""File locks where the file system has none."""

import errno

import pytest

from afmp.machine import locks
from afmp.machine.locks import locked


@pytest.mark.promise("no-file-locks")
def test_without_locks_of_the_file_system_work_continues_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    caplog.set_level("INFO", "afmp")
    with locked(tmp_path / "a", tmp_path / "b", busy="locked") as lock:
        assert lock == tmp_path / "a"
    assert f"{tmp_path / 'a'}: cannot be locked (No locks available)" in caplog.text
