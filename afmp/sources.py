"""Source files: all that a module or script imports, and their hash. An edit there makes a result out of date."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent  # the folder that contains afmp/


def import_closure(*starts: str | Path) -> list[Path]:
    """Return the sorted source files of this package that modules and scripts import, directly or not.

    A module (str) is included itself, a script (Path) is not. Import statements are read and not run, those inside
    functions too.
    """
    closure: set[Path] = set()
    pending: list[Path | None] = []
    for start in starts:
        pending.extend(_imports(start) if isinstance(start, Path) else [_module_file(start)])
    while pending:
        path = pending.pop()
        if path is None or path in closure:
            continue
        closure.add(path)
        pending.extend(_imports(path))
    return sorted(closure)


def source_hash(files: list[Path]) -> str:
    """Return the sha256 of names and contents of source files, in the given order."""
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PROJECT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@cache
def _module_file(module: str) -> Path | None:
    base = PROJECT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache  # the closures of the rules share most of their files
def _imports(path: Path) -> frozenset[Path]:
    names: set[str] = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # `from package import name` may import a module or something inside one: both are tried.
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "afmp":
                names.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return frozenset(filter(None, map(_module_file, names)))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements of a file, those inside others too. Expressions contain none, and most nodes are theirs."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            pending.extend(getattr(node, part, ()))
