"""The font of the figures: which characters it has, and how wide they are.

It is a part of Matplotlib, so a figure is the same on every machine, and can be drawn again to check it. Matplotlib
shapes its text: Arabic letters join, and Hebrew runs from right to left.
"""

import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

FONT = "DejaVu Sans"
FILES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")  # the titles of panels are bold
SCRIPTS = "Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian and Georgian letters, symbols and some emoji"
# Persian letters and some emoji are joined with these two. Other invisible characters would hide, or turn text around.
JOINERS = "\u200c\u200d"
BLANK = "\u034f\u2800\ufffc"  # characters of the font that show nothing, and are no spaces
INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")


def undrawable(text: str) -> list[str]:
    """Return the different characters of a text that figures cannot draw, in the order of their first appearance."""
    if text.isascii() and text.isprintable():
        return []
    return [letter for letter in dict.fromkeys(text) if not _is_drawable(letter)]


def drawable(text: str) -> str:
    """Return a text with escape sequences for the characters that figures cannot draw, except line ends."""
    for letter in undrawable(text):
        if letter != "\n":
            text = text.replace(letter, letter.encode("unicode_escape").decode("ascii"))
    return text


def as_seen(text: str) -> str:
    """Return a text that looks the same: letters composed, spaces single, no joiners and no selectors of a variant."""
    shown = (letter for letter in text if letter not in JOINERS and not "\ufe00" <= letter <= "\ufe0f")
    return " ".join(unicodedata.normalize("NFC", "".join(shown)).split())


def width(text: str) -> float:
    """Return the width of one line of text, in em (sizes of the font)."""
    widths = _widths()
    return sum(widths.get(ord(letter), 1.0) for letter in text)


def _is_drawable(letter: str) -> bool:
    hidden = letter in BLANK or unicodedata.category(letter) in INVISIBLE
    return letter in JOINERS or (not hidden and ord(letter) in _widths())


@cache
def _widths() -> dict[int, float]:
    """Return the width of each character that all files have, in em."""
    # Imported only here: most texts are ASCII. find_spec imports nothing; Matplotlib itself loads slowly.
    from fontTools.ttLib import TTFont

    folder = Path(find_spec("matplotlib").origin).parent / "mpl-data/fonts/ttf"
    found = []
    for name in FILES:
        with TTFont(folder / name, lazy=True) as font:
            size, advances = font["head"].unitsPerEm, font["hmtx"].metrics
            found.append({code: advances[glyph][0] / size for code, glyph in font.getBestCmap().items()})
    return {code: max(each[code] for each in found) for code in set(found[0]).intersection(*found[1:])}
