"""Tables for publication, in LaTeX and in Markdown: the summary and the differences, one table per study.

Both are arranged from the tables of which the CSV files are made, so they have the same numbers with fewer digits.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pandas

from afmp.analysis import wording
from afmp.study.semantics import RIVAL

# Columns flush left; numbers are flush right.
WORDS = (
    *("Run", "Reference", "Semantics", "Name", "Compared", "Setting", "Verdict", "To tell"),
    *("Claim", "Measured", "Figure", "Command"),
)
NARROW = (r"\footnotesize", r"\setlength{\tabcolsep}{3pt}")  # so that a table is no wider than a page
MOST_UPRIGHT = 8  # columns of a table on a page that is not turned
SMALLEST_P = 0.001

LATEX = {letter: f"\\{letter}" for letter in "{}$&#%_"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    # Most fonts of pdfLaTeX have these only in formulas.
    **{letter: f"${letter}$" for letter in "<>|"},
    "−": "$-$",
    "→": r"$\rightarrow$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}
GREEK = {
    "αβγδεζηθικλμνξπ": "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi",
    "ρσςτυφϕχψω": "rho sigma varsigma tau upsilon varphi phi chi psi omega",
    "ΓΔΘΛΞΠΣΥΦΨΩ": "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega",
}
LATEX |= {
    letter: f"$\\{name}$"
    for letters, names in GREEK.items()
    for letter, name in zip(letters, names.split(), strict=True)
}
NO_TABLE = "No run is compared with another one: each study has one run alone."
PDFLATEX_MARKS = "–—‘’“”„†‡•…€™"  # that pdfLaTeX prints, besides letters and marks up to LAST_LATIN
LAST_LATIN = "ſ"  # U+017F


# Columns of the summary and of the differences: mean, standard deviation, and the start of those of the interval.
TEST_ACCURACY = ("test_accuracy_mean", "test_accuracy_std", "test_accuracy_ci95")
OUTSIDE = "An interval of Student's t may leave 0 to 100 %: the values are few or far apart."
_DIFFERENCE = ("mean_difference", "std", "ci95")


class PrintedTable(NamedTuple):
    """A table for publication: plain texts, which `latex` and `markdown` escape.

    name: of the label, as `summary_window`. groups: rows of one semantics each. A row has a cell per entry of `header`.
    widths: of columns whose lines break in LaTeX, as parts of a line. A table with them may extend over several pages.
    """

    name: str
    caption: str
    header: list[str]
    groups: list[list[list[str]]]
    widths: Mapping[str, float] = MappingProxyType({})


def printed_summary(table: pandas.DataFrame, studies: list[dict], results: list[dict]) -> list[PrintedTable]:
    """Return a summary table arranged for publication, a table per study. results: those that it was made from."""
    columns = {
        "Run": lambda row: row["label"],
        "Semantics": lambda row: row["semantics"],
        "n": lambda row: str(row["n"]),
        "Test accuracy, %": lambda row: _mean(row, *TEST_ACCURACY, n=row["n"], form=".2f"),
        "Validation, %": lambda row: f"{row['best_val_accuracy_mean']:.2f}",
        "Best epoch": lambda row: f"{row['best_epoch_mean']:.1f}",
        "Parameters": lambda row: "; ".join(f"{int(number):,}" for number in row["num_parameters"].split("; ")),
    }
    printed = []
    for study, rows in _by_study(table, studies):
        datasets = wording.distinct(name for cell in rows["dataset"] for name in cell.split("; "))
        sentences = [
            f"{_title(study, rows)}, on {datasets}.",
            f"Test accuracy at the best epoch: {_mean_over(rows['n'], 'random seeds')}.",
            *[OUTSIDE] * _leaves_percent(rows),
            "Validation accuracy and best epoch are means.",
            *_selection(rows["semantics"].unique()),
            _measured_on(study, rows, results),
        ]
        printed.append(_printed("summary", study, " ".join(sentences), rows, columns))
    return printed


def printed_differences(table: pandas.DataFrame, studies: list[dict], results: list[dict]) -> list[PrintedTable]:
    """Return the differences in test accuracy of a differences table arranged for publication, a table per study.

    results: those that it was made from.
    """
    printed = []
    for study, rows in _by_study(table[table["metric"] == "test_accuracy"], studies):
        label_of = {member["run"]: member["label"] for member in study["members"]}
        columns = {
            "Run": lambda row: row["label"],
            "Reference": lambda row, label_of=label_of: label_of[row["reference"]],
            "Semantics": lambda row: row["semantics"],
            "n": lambda row: str(row["n_pairs"]),
            "Difference, points": lambda row: _mean(row, *_DIFFERENCE, n=row["n_pairs"], form="+.2f"),
        }
        sentences = [
            f"{_title(study, rows)}.",
            "Test accuracy of a run minus that of its reference, in percentage points, paired by random seed: "
            f"{_mean_over(rows['n_pairs'], 'pairs')}.",
        ]
        if (rows["n_pairs"] >= wording.FEWEST_SEEDS).any():
            columns["p"] = _p_value
            none = f"; {wording.NO_P} where the difference is equal in all pairs" * (
                wording.NO_P in map(_p_value, _rows(rows))
            )
            sentences.append(f"p: paired t test, {wording.UNCORRECTED}{none}.")
        sentences.append(_measured_on(study, rows, results))
        printed.append(_printed("differences", study, " ".join(sentences), rows, columns))
    return printed


def _measured_on(study: dict, rows: pandas.DataFrame, results: list[dict]) -> str:
    runs = {member["run"] for member in study["members"]}
    semantics = {*rows["semantics"], RIVAL}  # a rival is under each semantics of its study
    own = [result for result in results if result["run"] in runs and result["semantics"] in semantics]
    return wording.measured_on(part for result in own for part in result["trained_by"])


def _by_study(table: pandas.DataFrame, studies: list[dict]) -> Iterator[tuple[dict, pandas.DataFrame]]:
    # A study without rows, as of one run in the differences, has no table.
    for study in studies:
        rows = table[table["study"] == study["name"]]
        if len(rows):
            yield study, rows


def _printed(
    table: str, study: dict, caption: str, rows: pandas.DataFrame, columns: dict[str, Callable]
) -> PrintedTable:
    if rows["semantics"].nunique() == 1:
        # The caption says it, and a page is narrow.
        columns = {name: cell_of for name, cell_of in columns.items() if name != "Semantics"}
    groups = [
        [[cell_of(row) for cell_of in columns.values()] for row in _rows(of_one)]
        for _, of_one in rows.groupby("semantics", sort=False)
    ]
    return PrintedTable(f"{table}_{study['name']}", caption, list(columns), groups)


def _rows(table: pandas.DataFrame) -> list[pandas.Series]:
    return [row for _, row in table.iterrows()]


def _title(study: dict, rows: pandas.DataFrame) -> str:
    title = f"{study['section']} {study['title']}".strip()
    semantics = rows["semantics"].unique()
    return f"{title}, {wording.under(semantics[0])}" if len(semantics) == 1 else title


def _selection(semantics: Sequence[str]) -> list[str]:
    """Return how each semantics chooses its best epoch, as one sentence if all do the same."""
    said = {one: wording.validation_words(one).selection for one in semantics}
    if len(set(said.values())) == 1:
        return [said[semantics[0]]]
    return [f"{one}: {sentence[0].lower()}{sentence[1:]}" for one, sentence in said.items()]


def _mean_over(counts: pandas.Series, noun: str) -> str:
    few = counts < wording.FEWEST_SEEDS
    if (counts == 2).all():
        return f"both values, the lower one first, of two {noun}, which are too few for an interval"
    both = "; both values if n is 2" * bool((counts == 2).any())
    if few.all():
        return f"mean over n {noun}, without an interval because n is below {wording.FEWEST_SEEDS}{both}"
    interval = "95 % interval, Student's t" + f", if n is at least {wording.FEWEST_SEEDS}" * bool(few.any())
    return f"mean [{interval}] over n {noun}{both}"


def _leaves_percent(rows: pandas.DataFrame) -> bool:
    """Return whether an interval of an accuracy that is printed has an end below 0 or above 100 %."""
    printed = rows[rows["n"] >= wording.FEWEST_SEEDS]
    low, high = (printed[f"{TEST_ACCURACY[-1]}_{end}"] for end in ("low", "high"))
    return bool((low < 0).any() or (high > 100).any())


def _mean(row: pandas.Series, *columns: str, n: int, form: str) -> str:
    return wording.mean_of_row(row, *columns, n=n, form=form).replace("-", "−")


def _p_value(row: pandas.Series) -> str:
    if row["n_pairs"] < wording.FEWEST_SEEDS:
        return ""
    if pandas.isna(row["p_value"]):
        return wording.NO_P
    return f"< {SMALLEST_P}" if row["p_value"] < SMALLEST_P else f"{row['p_value']:#.2g}"


def latex(tables: Sequence[PrintedTable]) -> str:
    r"""Return LaTeX to \input: a table of booktabs per study, with a label `tab:<name>`.

    A table with widths is a `longtable`, which extends over several pages; it is turned if it has many columns. Greek
    letters and a few marks become formulas, which every engine prints. Other characters beyond ASCII stay. Comments at
    the start name the packages, and what these characters need.
    """
    blocks = [line for table in tables for line in (_long_lines(table) if table.widths else _float_lines(table))]
    return "\n".join([*_needs(tables, "".join(blocks)), *blocks]) + "\n"


def _float_lines(table: PrintedTable) -> list[str]:
    head, body = _latex_rows(table)
    return [
        "",
        r"\begin{table}",
        r"\centering",
        *NARROW,
        f"\\caption{{{escape_latex(table.caption)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{{''.join(_latex_column(name, table) for name in table.header)}}}",
        r"\toprule",
        head,
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _long_lines(table: PrintedTable) -> list[str]:
    head, body = _latex_rows(table)
    turned = len(table.header) > MOST_UPRIGHT
    return [
        "",
        *[r"\begin{landscape}"] * turned,
        # A group, so that its settings end with it.
        r"\begingroup",
        *NARROW,
        r"\setlength{\LTcapwidth}{\linewidth}",
        f"\\begin{{longtable}}{{{''.join(_latex_column(name, table) for name in table.header)}}}",
        f"\\caption{{{escape_latex(table.caption)}}}\\label{{tab:{table.name}}}\\\\",
        *(r"\toprule", head, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", head, r"\midrule", r"\endhead"),
        *(r"\bottomrule", r"\endfoot"),
        *body[1:],  # its first rule is that of the heads
        r"\end{longtable}",
        r"\endgroup",
        *[r"\end{landscape}"] * turned,
    ]


def _latex_rows(table: PrintedTable) -> tuple[str, list[str]]:
    """Return the row of the header, and the other rows with a rule before each group."""

    def row(cells: list[str]) -> str:
        escaped = map(escape_latex, cells)
        if table.widths:
            # Names, paths and lists of sizes have no spaces and are wider than their columns.
            escaped = (re.sub(r"(\\_|/|,(?=\d))", r"\1\\allowbreak{}", cell) for cell in escaped)
        return f"{' & '.join(escaped)} \\\\"

    body = [line for group in table.groups for line in (r"\midrule", *map(row, group))]
    return row(table.header), body


def _latex_column(name: str, table: PrintedTable) -> str:
    if name in table.widths:
        return f">{{\\raggedright\\arraybackslash}}p{{{table.widths[name]}\\linewidth}}"
    return "l" if name in WORDS else "r"


def _needs(tables: Sequence[PrintedTable], text: str) -> list[str]:
    """Return comments that say what a document needs for this LaTeX."""
    long = [table for table in tables if table.widths]
    packages = ["booktabs", *["array", "longtable"] * bool(long)]
    packages += ["pdflscape"] * any(len(table.header) > MOST_UPRIGHT for table in long)
    if not tables:
        return [f"% {NO_TABLE}"]
    needed = [f"% Needs \\usepackage{{{','.join(packages)}}}."]
    beyond = [letter for letter in dict.fromkeys(text) if not letter.isascii()]
    other = sorted(letter for letter in beyond if letter > LAST_LATIN and letter not in PDFLATEX_MARKS)
    if other:
        listed = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in other)
        needed.append(f"% Needs LuaLaTeX or XeLaTeX, and a font that has {listed}.")
    elif beyond:
        needed.append(r"% pdfLaTeX needs \usepackage[T1]{fontenc} for some letters beyond ASCII.")
    return needed


def escape_latex(text: str) -> str:
    """Return `text` as one line of LaTeX that prints this text, whatever names it contains.

    A [ or * after the end of a row would be an argument of it, and LaTeX would join two of some marks.
    """
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    text = re.sub(r"([-,'])(?=\1)", r"\1{}", "".join(LATEX.get(letter, letter) for letter in text))
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def markdown(tables: Sequence[PrintedTable]) -> str:
    """Return Markdown: per study the caption and a table with pipes, as GitHub and Pandoc read it.

    Without a table it is one sentence, and a table without rows is its caption alone.
    """
    blocks = [
        f"{escape_markdown(table.caption)}\n" + (f"\n{markdown_rows(table)}" if any(table.groups) else "")
        for table in tables
    ]
    return "\n".join(blocks or [f"{NO_TABLE}\n"])


def markdown_rows(table: PrintedTable) -> str:
    """Return a table with pipes, as in `markdown`, without its caption."""
    rules = [":--" if name in WORDS else "--:" for name in table.header]
    rows = [table.header, *(cells for group in table.groups for cells in group)]
    head, *lines = [f"| {' | '.join(map(_markdown_cell, table.header, cells))} |" for cells in rows]
    return "\n".join([head, f"| {' | '.join(rules)} |", *lines]) + "\n"


def _markdown_cell(column: str, text: str) -> str:
    """Return a cell, escaped; a command as code, which can be copied from the file itself."""
    is_code = column == "Command" and " " in text and not set("`|\n") & set(text)
    return f"`{text}`" if is_code else escape_markdown(text)


def escape_markdown(text: str) -> str:
    """Return `text` as one line of Markdown that shows this text, whatever names it contains.

    A backslash makes the character after it ordinary, also where it would make a link or a citation.
    """
    text = re.sub(r"([\\`*_~^$<>&|#@]|-(?=-)|:(?=//)|(?<=www)\.|\](?=[(\[:{]))", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(\d*)(?=[-+.)] )", r"\1\\", text)  # a caption would start a list
