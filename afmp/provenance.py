"""Provenance of results: the versions of the software and the device that computed them."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from afmp.sources import PROJECT

# Paths whose uncommitted changes make a checkout dirty. Others compute nothing, and results contain the configuration.
CODE = ("afmp", "rules", "Snakefile", "workflow_scripts")
THIS_FILE = Path(__file__).resolve().relative_to(PROJECT).as_posix()


@cache
def versions() -> dict:
    """Return the versions of python, torch, cuda, driver, timm, numpy and this project.

    `cuda` and `driver` are None without an NVIDIA GPU; `git_commit` and `git_dirty` are None where this
    project is no git checkout of its own.
    """
    import torch

    commit, dirty = own_commit()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "driver": _driver(),
        "timm": _package_version("timm"),
        "numpy": _package_version("numpy"),
        "afmp": _project_version(),
        "git_commit": commit,
        "git_dirty": dirty,
    }


def own_commit() -> tuple[str | None, bool | None]:
    """Return the commit of this project's checkout, and whether its code has uncommitted changes.

    A repository around the project is not its own, as where a copy without .git or an installed package lies in one.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top) != PROJECT or _git("cat-file", "-e", f"HEAD:{THIS_FILE}") is None:
        return None, None
    changes = _git("status", "--porcelain", "--", *CODE)
    return _git("rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(*words: str) -> str | None:
    # Variables as GIT_DIR would name another repository. Status writes to the checkout unless told not to.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return _output("git", "-C", str(PROJECT), *words, environment=own | {"GIT_OPTIONAL_LOCKS": "0"})


def _project_version() -> str:
    from afmp import __version__

    return __version__


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _driver() -> str | None:
    text = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return text.splitlines()[0].strip() if text else None


def _output(*command: str, environment: dict[str, str] | None = None) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout).removesuffix("\n")


def device_record(device) -> dict:
    """Return type and name of a torch device, as results record them."""
    import torch

    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device)}
    return {"type": device.type, "name": _processor()}


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
