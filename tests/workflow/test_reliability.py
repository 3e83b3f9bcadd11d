"""docs/reliability.md names tests that exist."""

import ast
import re

from conftest import PROJECT

PAGE = (PROJECT / "docs/reliability.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_named_in_the_page_exists():
    named = TEST.findall(PAGE)
    assert len(named) > 40 and len(named) == PAGE.count("::")
    for file, name in named:
        functions = {node.name for node in ast.parse((PROJECT / file).read_text()).body if hasattr(node, "name")}
        assert name in functions, f"{file}::{name}"


def test_every_promise_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.endswith("| held by |")]
    assert len(rows) > 30
    assert [row for row in rows if not TEST.search(row.rsplit("|", 2)[1])] == []
