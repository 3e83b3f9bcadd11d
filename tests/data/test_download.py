"""Downloads: the right bytes from any address, or one error that says what to do."""

import os

import pytest
from tiny_archives import archive_of
from web_server import complete, page_server

from afmp.data.cifar import ARCHIVES
from afmp.data.download import fetch
from afmp.errors import AfmpError


@pytest.fixture
def server():
    with page_server() as server:
        yield server


CONTENT = bytes(range(256)) * 9000


FAULTS = {
    "cut": ((200, "application/gzip", CONTENT[:1000], len(CONTENT)), "ended after 1,000 of 2,304,000 bytes"),
    "page": ((200, "text/html", b"\n<!DOCTYPE html><p>moved</p>", 28), "a web page"),
    "checksum": ((200, "application/gzip", CONTENT[::-1], len(CONTENT)), "the sha256 is "),
    "short": ((200, "application/gzip", CONTENT[:-1], len(CONTENT) - 1), "the download ended after"),
    "long": ((200, "application/gzip", CONTENT + b"x", len(CONTENT) + 1), "more than the expected"),
    "missing": ((404, "text/html", b"<p>no</p>", 9), "answered 404"),
    "broken": ((503, "text/plain", b"busy", 4), "answered 503"),
}


@pytest.mark.promise("bad-download")
@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_bad_address_the_next_one_is_used(server, tmp_path, fault):
    server.pages = {"/bad": [FAULTS[fault][0]], "/good": [complete(CONTENT)]}
    archive = archive_of(CONTENT, f"{server.address}/bad", f"{server.address}/good")
    fetch(archive, tmp_path / "new" / "data.tar.gz", attempts=2, first_wait=0)
    assert (tmp_path / "new" / "data.tar.gz").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.tar.gz"]
    # A second request is made only where it can help.
    assert server.asked == ["/bad"] * (2 if fault in ("cut", "short", "broken") else 1) + ["/good"]


@pytest.mark.promise("every-source-fails")
def test_when_every_address_fails_the_error_says_where_to_place_the_file_by_hand(server, tmp_path):
    server.pages = {f"/{fault}": [answer] for fault, (answer, _) in FAULTS.items()}
    no_server = "http://127.0.0.1:9/nobody"
    archive = archive_of(CONTENT, *(f"{server.address}/{fault}" for fault in FAULTS), no_server)
    with pytest.raises(AfmpError) as raised:
        fetch(archive, tmp_path / "data.tar.gz", attempts=1)
    message = str(raised.value)
    for fault, (_, reason) in FAULTS.items():
        line = next(line for line in message.splitlines() if line.strip().startswith(f"{server.address}/{fault}:"))
        assert reason in line
    assert f"{no_server}: no connection" in message
    assert archive.sha256 in message.splitlines()[-1] and str(tmp_path / "data.tar.gz") in message.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.promise("bad-download")
def test_an_address_that_recovers_is_used(server, tmp_path):
    server.pages = {"/a": [FAULTS["cut"][0], FAULTS["broken"][0], complete(CONTENT)]}
    fetch(archive_of(CONTENT, f"{server.address}/a"), tmp_path / "data.tar.gz", first_wait=0)
    assert (tmp_path / "data.tar.gz").read_bytes() == CONTENT


@pytest.mark.promise("file-placed-by-hand")
def test_a_file_placed_by_hand_needs_no_network_and_a_wrong_one_is_replaced(server, tmp_path):
    placed = tmp_path / "data.tar.gz"
    placed.write_bytes(CONTENT)
    server.pages = {"/a": [complete(CONTENT)]}
    archive = archive_of(CONTENT, f"{server.address}/a")
    fetch(archive, placed)
    assert server.asked == []
    placed.write_bytes(CONTENT[:-1])
    fetch(archive, placed)
    assert placed.read_bytes() == CONTENT
    placed.write_bytes(b"kept until there is something better")
    server.pages = {}
    with pytest.raises(AfmpError, match="exists, but its sha256 is wrong"):
        fetch(archive, placed)
    assert placed.read_bytes() == b"kept until there is something better"


UNREADABLE = {
    "folder": (lambda path: path.mkdir(), "is a folder, where a plain file belongs"),
    "pipe": (os.mkfifo, "is a pipe, where a plain file belongs"),
    "circle": (lambda path: path.symlink_to(path.name), "is a broken link, which leads back to itself"),
    "fault of the disk": (lambda path: path.symlink_to("/proc/self/mem"), r"cannot be read \(Input/output error\)"),
}


@pytest.mark.promise("unreadable-archive")
@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_archive_that_cannot_be_read_is_named_and_not_replaced(server, tmp_path, kind):
    placed = tmp_path / "data.tar.gz"
    make, reason = UNREADABLE[kind]
    make(placed)
    with pytest.raises(AfmpError, match=rf"data\.tar\.gz: {reason}"):
        fetch(archive_of(CONTENT, f"{server.address}/a"), placed)
    assert server.asked == [] and os.path.lexists(placed)


@pytest.mark.promise("unreadable-archive")
def test_an_archive_that_a_colleague_keeps_private_is_named_and_not_replaced(server, powerless):
    placed = powerless / "data.tar.gz"
    placed.write_bytes(CONTENT)
    placed.chmod(0)
    with pytest.raises(AfmpError, match=r"data\.tar\.gz: cannot be read \(Permission denied\); .* ask its owner"):
        fetch(archive_of(CONTENT, f"{server.address}/a"), placed)
    assert server.asked == [] and placed.stat().st_size == len(CONTENT)


def test_the_slow_original_host_comes_last():
    for source in ("cifar10", "cifar100"):
        archive = ARCHIVES[source]
        assert len(archive.sha256) == 64 and len(set(archive.addresses)) == len(archive.addresses) >= 3
        assert ["toronto" in address for address in archive.addresses].index(True) == len(archive.addresses) - 1
        assert all(address.startswith("https://") for address in archive.addresses)
