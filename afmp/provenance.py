"""Where a number came from: versions, device, and the source files that decide it."""

import ast
import hashlib
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CODE = ("afmp", "rules", "schemas", "Snakefile", "workflow_scripts")


@cache
def versions() -> dict:
    """Versions of what computed a result: python, torch, cuda, driver, timm, numpy and this project.

    `cuda` and `driver` are None without an NVIDIA GPU; `git_commit` and `git_dirty` are None outside a git checkout.
    """
    import torch

    commit = _output("git", "-C", str(PROJECT), "rev-parse", "HEAD")
    # Only what computes counts: the configuration stands in the result, and results and notes are nobody's business.
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
    """Type and name of a torch device, as results carry it."""
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
        pass  # no Linux
    return platform.processor() or platform.machine()


def import_closure(*starts: str | Path) -> list[Path]:
    """Source files of this package that the given modules and scripts import, directly or not; sorted.

    A module (str) is included itself, a script (Path) is not. Found by reading the import statements,
    function-level ones too, without running anything. Snakemake watches a script but nothing that it imports, so
    the rules name these files as inputs.
    """
    found: set[Path] = set()
    pending: list[str] = []
    for start in starts:
        pending.extend(_imports(start) if isinstance(start, Path) else [start])
    while pending:
        path = _module_file(pending.pop())
        if path is None or path in found:
            continue
        found.add(path)
        pending.extend(_imports(path))
    return sorted(found)


def source_hash(files: list[Path]) -> str:
    """sha256 over names and contents of source files, in the order given."""
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PROJECT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _module_file(module: str) -> Path | None:
    base = PROJECT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from afmp.figures import style` may name a module or something inside one: both are tried.
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "afmp":
                names.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return names
