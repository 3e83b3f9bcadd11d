"""README and docs: what they show can be run, and their links lead somewhere."""

import contextlib
import io
import re
import subprocess
import sys

import pytest
from conftest import PROJECT
from PIL import Image

from afmp.cli import main

README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}

PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```\n\n```\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands(program: str) -> list[str]:
    """Command lines of `program`, a pattern, in code blocks and in backquotes, without comments."""
    text = "\n".join(TEXTS.values()).replace("\\\n", " ")
    lines = re.findall(rf"^(?:time )?({program}\b[^#\n]*)", text, re.MULTILINE)
    return sorted({" ".join(line.split()) for line in lines + re.findall(rf"`({program}\b[^`]*)`", text)})


def test_python_blocks_of_readme_print_what_is_shown():
    blocks = PYTHON_BLOCK.findall(TEXTS[README])
    assert len(blocks) == TEXTS[README].count("```python")
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), {})
        assert without_numbers(printed.getvalue()) == without_numbers(shown)


def without_numbers(text: str) -> list[str]:
    """Lines with each number as '#': random weights give other numbers on other machines."""
    return [re.sub(r"\d+(\.\d+)?", "#", line) for line in text.splitlines()]


def test_readme_has_at_most_1100_words():
    assert len(TEXTS[README].split()) <= 1100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_relative_links_lead_to_files_and_headings(page):
    for link in LINK.findall(TEXTS[page]):
        if link.startswith(("http://", "https://")):
            continue
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not heading or heading in headings(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_files_named_in_backquotes_exist(page):
    named = re.findall(r"`((?:afmp|archive|docs|profiles|rules|tests)/[\w./-]+?)(?:::\w+)?`", TEXTS[page])
    example = "2026-01-31-h200"  # an archive to be made
    assert [file for file in named if not (PROJECT / file).exists() and example not in file] == []


def headings(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("command", commands("afmp [a-z]+"))
def test_every_afmp_command_and_its_flags_exist(command, capsys):
    words = command.split()[1:]
    flags = [word for word in words if word.startswith("--")]
    with pytest.raises(SystemExit) as ended:
        main([*words[: 2 if words[0] == "benchmark" else 1], "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert [flag for flag in flags if not re.search(rf"{flag}\b", shown)] == []


def test_every_snakemake_target_exists():
    listed = subprocess.run(
        [sys.executable, "-m", "snakemake", "--list-rules"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    rules = listed.stdout.split()
    for command in commands("snakemake [a-z-]+"):
        target = command.split()[1]
        assert target in rules or target.startswith(("results/", "-")), command


def test_the_picture_of_readme_is_drawn_from_the_archive(tmp_path):
    picture = tmp_path / "one_image.png"
    subprocess.run([sys.executable, PROJECT / "docs/pictures/draw_one_image.py", picture], check=True)
    with Image.open(picture) as drawn, Image.open(PROJECT / "docs/pictures/one_image.png") as committed:
        assert drawn.size == committed.size
