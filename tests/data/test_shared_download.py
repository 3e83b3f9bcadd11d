"""One download for all workflows that share a data store."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from jobs import Job, job_starter
from tiny_archives import archive_of, tiny_cifar
from web_server import web_server

from afmp.data.dataset import load_dataset

PREPARE = """
from pathlib import Path
from afmp.data.cifar import ARCHIVES
from afmp.data.download import Archive, archive_folder
from afmp.data.preparation import prepare_dataset
from afmp.log import show_progress
name, size, sha256, address, destination = sys.argv[1:]
ARCHIVES["cifar100"] = Archive(name, int(size), sha256, (address,), "none")
config = {"source": "cifar100", "path": None, "image_size": 32}
with show_progress():
    prepare_dataset(config, Path(destination), download_folder=archive_folder("not_here"))
"""


@pytest.fixture
def start(tmp_path):
    with job_starter(tmp_path) as start:
        yield start


@pytest.fixture
def slow_server():
    """A web server that sends half of `content` and waits for `resume` before the rest."""

    def answer(server, handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(server.content)))
        handler.end_headers()
        half = len(server.content) // 2
        with suppress(OSError):  # the client was killed
            handler.wfile.write(server.content[:half])
            server.resume.wait(60)
            handler.wfile.write(server.content[half:])

    with web_server(answer) as server:
        server.content, server.resume = tiny_cifar("cifar100")[0], threading.Event()
        yield server
        server.resume.set()


@pytest.mark.promise("shared-downloads")
@pytest.mark.parametrize("killed", [pytest.param(False, marks=pytest.mark.long), True])
def test_two_workflows_share_one_download(start, slow_server, tmp_path, killed):
    archive = archive_of(slow_server.content, f"{slow_server.address}/a")
    store = tmp_path / "store"

    def prepare(destination: str) -> Job:
        wanted = (archive.file_name, archive.num_bytes, archive.sha256, archive.addresses[0], tmp_path / destination)
        return start(PREPARE, *wanted, AFMP_DATA_DIR=str(store))

    first = prepare("first.safetensors")
    first.wait_for("downloading from")
    while not list(store.glob("*.part")):
        time.sleep(0.02)
    second = prepare("second.safetensors")
    assert f"process {first.process.pid} on" in second.wait_for("another process is downloading it; waiting for")
    assert len(slow_server.asked) == 1
    if killed:
        first.kill()
        second.wait_for("downloading from")
    slow_server.resume.set()
    second.finish()
    assert len(slow_server.asked) == (2 if killed else 1)
    if not killed:
        first.finish()
        assert sorted(path.name for path in store.iterdir()) == [f".{archive.file_name}.lock", archive.file_name]
        assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()
    assert load_dataset(tmp_path / "second.safetensors").num_classes == 3
    assert not Path("not_here").exists()


@pytest.mark.promise("readable-data-store")
@pytest.mark.parametrize("umask", [0o077, *(pytest.param(mask, marks=pytest.mark.long) for mask in (0o027, 0o777))])
def test_a_store_that_one_user_fills_can_be_read_by_all(umask, tmp_path, start):
    content, *_ = tiny_cifar("cifar100")
    source, store = tmp_path / "source.tar.gz", tmp_path / "new" / "store"
    source.write_bytes(content)
    archive = archive_of(content, source.as_uri())
    described = (archive.file_name, str(archive.num_bytes), archive.sha256, source.as_uri(), tmp_path / "private/data")
    masked = f"os.umask({umask})\n{PREPARE}"
    for _ in range(2):
        start(masked, *described, AFMP_DATA_DIR=str(store)).finish()
        assert all(folder.stat().st_mode & 0o555 == 0o555 for folder in (store.parent, store))
        assert (store / archive.file_name).stat().st_mode & 0o444 == 0o444
        (store / archive.file_name).chmod(0o400)  # as a file that was placed by hand
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0o077 & ~umask
