"""Labels: texts of a study that figures draw. Each is drawn as written, or refused before anything is computed."""

from afmp.errors import AfmpError
from afmp.study.font import FONT, SCRIPTS, as_seen, undrawable

SHOWN = 5  # characters that a message lists


def check_labels(studies: dict) -> None:
    """Check that figures can draw each text of a study, and that no two labels of one study look the same.

    Raises AfmpError with the key, the text, and the characters that the font lacks.
    """
    for study, table in studies.items():
        where = f"studies/{study}"
        for key in ("section", "title"):
            _check_drawable(table[key], f"{where}/{key}")
        seen: dict[str, str] = {}
        for index, line in enumerate(table["runs"]):
            label = line.get("label", line["run"])
            _check_drawable(label, f"{where}/runs/{index}/label")
            other = seen.setdefault(as_seen(label), label)
            if other != label:
                raise AfmpError(
                    f"config: {where}/runs/{index}/label: {label!r} looks like the label {other!r} of this study; "
                    "only spaces, joiners or the composition of letters differ, give each its own label."
                )


def _check_drawable(text: str, where: str) -> None:
    missing = undrawable(text)
    if missing:
        listed = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise AfmpError(
            f"config: {where}: found {text[:80]!r}; figures cannot draw {listed}{more}, because their font, {FONT}, "
            f"has no such visible character; allowed: {SCRIPTS}."
        )
    if not as_seen(text):
        raise AfmpError(f"config: {where}: found {text[:80]!a}, of which nothing is seen; allowed: a visible text.")
