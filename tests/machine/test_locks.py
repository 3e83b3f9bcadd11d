"""File locks in folders that several users share, and where the file system has none."""

import errno
import fcntl
import os
from contextlib import ExitStack

import pytest

from afmp.machine.locks import lock_if_free, locked


@pytest.mark.promise("no-file-locks")
def test_without_locks_of_the_file_system_work_continues_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    caplog.set_level("INFO", "afmp")
    with locked(tmp_path / "a", tmp_path / "b", busy="locked") as lock:
        assert lock == tmp_path / "a"
    assert f"{tmp_path / 'a'}: cannot be locked (No locks available)" in caplog.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes the file of another user")
def test_the_lock_file_of_another_user_is_locked_as_ones_own(powerless):
    """As on a machine with one GPU for several users: whose job came first owns the file in /tmp."""
    file, user = powerless / "gpu.lock", os.geteuid()
    file.touch()
    file.chmod(0o666)
    os.seteuid(0)
    os.chown(file, 1, 1)
    os.chown(powerless, 0, 0)
    powerless.chmod(0o1777)
    os.seteuid(user)
    with locked(file, busy="busy"), ExitStack() as second:
        assert not lock_if_free(file, second)
    with ExitStack() as held:
        assert lock_if_free(file, held)
        with ExitStack() as second:
            assert not lock_if_free(file, second)
