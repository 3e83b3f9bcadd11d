"""Provenance of results: the versions of the software and the device that computed them."""

import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from afmp.sources import PROJECT

# Paths whose uncommitted changes make a checkout dirty. Others compute nothing, and results contain the configuration.
CODE = ("afmp", "rules", "Snakefile", "workflow_scripts")


@cache
def versions() -> dict:
    """Return the versions of python, torch, cuda, driver, timm, numpy and this project.

    `cuda` and `driver` are None without an NVIDIA GPU; `git_commit` and `git_dirty` are None outside a git checkout.
    """
    import torch

    commit = _output("git", "-C", str(PROJECT), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(PROJECT), "status", "--porcelain", "--", *CODE)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "driver": _driver(),
        "timm": _package_version("timm"),
        "numpy": _package_version("numpy"),
        "afmp": _project_version(),
        "git_commit": commit,
        "git_dirty": None if commit is None else bool(changes),
    }


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


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def device_record(device) -> dict:
    """Return type and name of a torch device, as results record them."""
    import torch

    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device)}
    return {"type": device.type, "name": _processor()}


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()
