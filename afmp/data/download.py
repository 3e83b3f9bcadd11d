"""Downloads: a published archive from the first address that serves the right bytes."""

import hashlib
import http.client
import logging
import os
import stat
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import is_there, sha256_of
from afmp.machine.locks import locked
from afmp.records import NOT_TO_BE_WRITTEN, atomic_path

log = logging.getLogger("afmp")

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30
READABLE_BY_ALL = 0o644


@dataclass(frozen=True)
class Archive:
    """One published file, and all addresses known to serve exactly its bytes, in the order in which they are tried."""

    file_name: str
    num_bytes: int
    sha256: str
    addresses: tuple[str, ...]
    citation: str


class _AddressFailed(Exception):
    """The reason why one address did not give the archive, and whether a second request can help."""

    def __init__(self, reason: str, *, try_again: bool):
        super().__init__(reason)
        self.try_again = try_again


def archive_folder(default: Path | str) -> Path:
    """Return the folder for archives: AFMP_DATA_DIR, a data store that workflows can share, or else `default`."""
    return _data_store() or Path(default)


def _data_store() -> Path | None:
    """Return the folder that AFMP_DATA_DIR names, or None."""
    named = os.environ.get("AFMP_DATA_DIR")
    return Path(named) if named else None


def fetch_into(folder: Path, archive: Archive) -> Path:
    """Return the path of `archive` in a folder that other processes may use too; download it if it is missing.

    One process downloads at a time. The others wait, and then find the file.
    """
    if folder == _data_store():
        _make_shared(folder)
    path = folder / archive.file_name
    with locked(path.with_name(f".{path.name}.lock"), busy=f"{path}: another process is downloading it"):
        fetch(archive, path)
    return path


def fetch(archive: Archive, destination: Path, *, attempts: int = 3, first_wait: float = 1.0) -> None:
    """Download the archive to `destination`, from the first address that serves it completely, and check its sha256.

    A file that is already there with the right sha256 is used, so it can be placed by hand. Where a second request can
    help (a broken connection, a busy server), an address gets up to `attempts` requests, with waits of `first_wait`,
    twice that, ... seconds. After a missing file, a web page or a wrong checksum the next address is tried at once.
    Every user of the machine may read the file, whatever the umask is: it is public, and a store can be shared.
    Raises AfmpError with every address, why it failed, the right sha256, and where to place the file by hand; and
    naming a file that is already there and cannot be read.
    """
    destination = Path(destination)
    failures = []
    if is_there(destination):
        if sha256_of(destination) == archive.sha256:
            _let_all_read(destination)
            return
        failures.append(f"{destination}: exists, but its sha256 is wrong; it is downloaded again")
    for address in archive.addresses:
        for attempt in range(attempts):
            log.info(f"{archive.file_name}: downloading from {address}")
            try:
                with atomic_path(destination, mode=READABLE_BY_ALL) as part:
                    _download(address, archive, part)
                log.info(f"{archive.file_name}: complete and checked. To cite: {archive.citation}")
                return
            except _AddressFailed as failed:
                reason, try_again = str(failed), failed.try_again
            log.info(f"{archive.file_name}: {reason}")
            if not try_again or attempt == attempts - 1:
                break
            time.sleep(first_wait * 2**attempt)
        failures.append(f"{address}: {reason}")
    raise AfmpError(
        f"{archive.file_name} could not be downloaded:",
        *(f"  {failure}" for failure in failures),
        f"Get it from anywhere and place it at {destination} (sha256 {archive.sha256}), then run this again.",
    )


def _make_shared(folder: Path) -> None:
    """Make a folder and those above it, where missing, so that every user of the machine can enter them."""
    missing = [each for each in (folder, *folder.parents) if not is_there(each)]
    with suppress(OSError):  # who cannot make the folder cannot write the file, and that is the error
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            each.chmod(stat.S_IMODE(each.stat().st_mode) | 0o555)


def _let_all_read(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode | 0o444 != mode:
        with suppress(OSError):  # the file of another user
            path.chmod(mode | 0o444)


def _download(address: str, archive: Archive, part: Path) -> None:
    """Download one address into `part`. Raises _AddressFailed unless it serves exactly the archive's bytes."""
    request = urllib.request.Request(address, headers={"User-Agent": "afmp-dataset-download"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            _receive(response, archive, part)
    except urllib.error.HTTPError as error:
        error.close()
        busy = error.code in (408, 425, 429) or error.code >= 500
        raise _AddressFailed(f"the server answered {error.code} {error.reason}", try_again=busy) from None
    except urllib.error.URLError as error:
        raise _AddressFailed(f"no connection ({error.reason})", try_again=True) from None
    except (OSError, http.client.HTTPException) as error:
        # A full disk is not the address's fault. Trying the next one would only hide it.
        if getattr(error, "errno", None) in NOT_TO_BE_WRITTEN:
            raise
        raise _AddressFailed(f"the connection broke ({error!r})", try_again=True) from None


def _receive(response, archive: Archive, part: Path) -> None:
    digest, received, logged = hashlib.sha256(), 0, 0
    with part.open("wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            # Servers that lost a file often answer "200 OK" with a page about it.
            if received == 0 and chunk.lstrip()[:1] == b"<":
                raise _AddressFailed("the server sent a web page instead of the file", try_again=False)
            received += len(chunk)
            if received > archive.num_bytes:
                raise _AddressFailed(f"received more than the expected {archive.num_bytes:,} bytes", try_again=False)
            digest.update(chunk)
            file.write(chunk)
            if received - logged >= archive.num_bytes / 10:
                logged = received
                log.info(f"{archive.file_name}: {received / 1e6:.0f} of {archive.num_bytes / 1e6:.0f} MB")
    if received < archive.num_bytes:
        raise _AddressFailed(f"the download ended after {received:,} of {archive.num_bytes:,} bytes", try_again=True)
    if digest.hexdigest() != archive.sha256:
        raise _AddressFailed(f"the sha256 is {digest.hexdigest()}, not the expected one", try_again=False)
