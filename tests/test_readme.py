"""README and docs: what they show can be run, and their links lead somewhere."""

import contextlib
import io
import re
import runpy
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


VERDICTS = "<!-- verdicts: archive/2026-11-24-h200 -->\n{}<!-- end of verdicts -->\n"


def with_verdicts(readme) -> str:
    """Run the script that writes the table of verdicts into a README, and return the text of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["write_verdicts.py", str(readme)])
        runpy.run_path(str(PROJECT / "docs/write_verdicts.py"), run_name="__main__")
    return readme.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> str:
    """A README in which the script has replaced an old table."""
    readme = tmp_path_factory.mktemp("readme") / "README.md"
    readme.write_text("# Title\n\n" + VERDICTS.format("\n| old |\n\n") + "\nText\n", encoding="utf-8")
    return with_verdicts(readme)


def test_the_table_of_verdicts_is_that_of_the_archive_and_replaces_another(written):
    _, _, start, _, header, _, *rows, _, end, _, text = written.splitlines()
    assert (start, end, text) == (*VERDICTS.format("").splitlines(), "Text")
    assert header == "| Claim | Verdict | Measured | Seeds |" and len(rows) == 6
    growth = "exponent of N, AFMP-Small minus DeiT-Tiny: −0.12, 1,792 to 3,584 px"
    assert rows[-1] == f"| Training memory: O(N) against O(N²) | fails | {growth} | exact |"


def test_the_verdicts_of_readme_are_those_of_the_archive_that_it_names(tmp_path):
    (tmp_path / "README.md").write_text(TEXTS[README], encoding="utf-8")
    assert with_verdicts(tmp_path / "README.md") == TEXTS[README], "`python docs/write_verdicts.py` writes it again"


def test_a_readme_without_a_place_for_verdicts_is_left_as_it_is(tmp_path):
    readme = tmp_path / "README.md"
    for text in ("# Title\n", 2 * VERDICTS.format("")):
        readme.write_text(text, encoding="utf-8")
        with pytest.raises(
            SystemExit, match=r"README\.md: found [02] tables of verdicts; allowed: one, between a line <!-- ver"
        ):
            with_verdicts(readme)
        assert readme.read_text(encoding="utf-8") == text
