"""Source files that decide a number: what a module or script imports, and a hash of it."""

import ast
import hashlib
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


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
