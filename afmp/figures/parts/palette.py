"""Colours, lines and markers of all figures and of the first page, without Matplotlib."""

# The palette of Okabe and Ito, safe for common colour blindness, without its yellow, which is pale on white.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
GREY = "#666666"
DARK = "#222222"
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SEMANTICS_STYLE = {
    "paper": {"color": BLUE, "marker": "o", "linestyle": "-"},
    "notebook": {"color": VERMILION, "marker": "s", "linestyle": "--"},
    "refined": {"color": PURPLE, "marker": "v", "linestyle": LINES[4]},
    "timm": {"color": GREY, "marker": "D", "linestyle": ":"},
}


def run_style(index: int) -> dict:
    """Return colour, line and marker of the index-th run. Runs differ also without colour."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }
