"""README and docs: Python blocks run and print what is shown, links lead to files, the picture can be drawn."""

import contextlib
import io
import re
import subprocess
import sys

import pytest
from conftest import PROJECT
from PIL import Image

README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def without_numbers(text: str) -> list[str]:
    """Lines with each number as '#': random weights give other numbers on other machines."""
    return [re.sub(r"\d+(\.\d+)?", "#", line) for line in text.splitlines()]


def test_python_blocks_of_readme_print_what_is_shown():
    blocks = PYTHON_BLOCK.findall(README.read_text(encoding="utf-8"))
    assert blocks
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {})
        assert without_numbers(printed.getvalue()) == without_numbers(shown)


def test_readme_has_at_most_1100_words():
    assert len(README.read_text(encoding="utf-8").split()) <= 1100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_relative_links_lead_to_files_and_headings(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, heading = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {link}"
        if heading:
            assert heading in headings(target.read_text(encoding="utf-8")), f"{page.name} links to {link}"


def headings(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_picture_of_readme_is_drawn_from_the_archive(tmp_path):
    picture = tmp_path / "one_image.png"
    subprocess.run([sys.executable, PROJECT / "docs/pictures/draw_one_image.py", picture], check=True)
    with Image.open(picture) as drawn, Image.open(PROJECT / "docs/pictures/one_image.png") as committed:
        assert drawn.size == committed.size
