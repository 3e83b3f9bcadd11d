"""The rooms of afmp/ and their order: imports only go down."""

import ast
import re
from pathlib import Path

import pytest
from conftest import PROJECT

# From the ground up, one floor per line. A room may import from itself and from the floors below its own.
FLOORS = (
    ("errors", "sources"),
    ("display", "files", "process", "provenance", "message_passing"),
    ("log",),
    ("machine", "records", "tensors"),
    ("data", "study"),
    ("model", "analysis"),
    ("training", "figures", "timm"),
    ("benchmark",),
    ("finished",),
    ("commands",),
    ("cli",),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}

MODULES = sorted(path for path in (PROJECT / "afmp").rglob("*.py") if path != PROJECT / "afmp/__init__.py")
PACKAGES = [path for path in MODULES if path.name == "__init__.py"]


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT / "afmp").with_suffix("").as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms that a module imports, in functions too."""
    rooms = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            # `from afmp import errors` imports a room, `from afmp import __version__` none.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        rooms |= {part[1] for part in parts if part[0] == "afmp" and len(part) > 1 and part[1] in FLOOR}
    return rooms


def room_of(path: Path) -> str:
    return name_of(path).partition("/")[0]


def test_every_module_belongs_to_a_room_of_the_list():
    assert {room_of(path) for path in MODULES} == set(FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_its_own_room_and_the_floors_below(path):
    own = room_of(path)
    assert not {room for room in imported_rooms(path) if room != own and FLOOR[room] >= FLOOR[own]}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_string_of_a_module_names_a_module_of_a_floor_above(path):
    """A module that is named in a string is imported later."""
    own = room_of(path)
    texts = [node.value for node in ast.walk(tree_of(path)) if isinstance(node, ast.Constant)]
    matches = [re.fullmatch(r"afmp\.(\w+)[\w.:]*", text) for text in texts if isinstance(text, str)]
    named = {match[1] for match in matches if match and match[1] in FLOOR}
    assert not {room for room in named if room != own and FLOOR[room] >= FLOOR[own]}


@pytest.mark.parametrize("path", PACKAGES, ids=name_of)
def test_the_init_of_a_package_is_a_docstring(path):
    """Source hashing follows an `__init__`, so code there would rerun jobs after unrelated edits."""
    (statement,) = tree_of(path).body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value.value, str)
