"""Words that figures, tables and captions share: the semantics, numbers with intervals, reStructuredText."""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from afmp.analysis.statistics import FEWEST_SEEDS, Interval, PairedDifference, two_values
from afmp.study.font import drawable, width
from afmp.study.semantics import RIVAL, SEMANTICS

SEMANTICS_IN_WORDS = {
    "paper": "what the text of the original notebook describes",
    "notebook": "what the code of the original notebook computes",
    "refined": "an AFMP with normalisation, residual paths, directions and channel mixing",
    "timm": "a model of timm, to compare with",
}
WIDE = 0.66  # em per character: above the average of any sentence
UNCORRECTED = "without correction for multiple comparisons"
NO_P = "none"  # instead of a p-value where a difference is equal in all pairs
MEGABYTE = "1 MB is 2^20 bytes."  # of memory, in every record, table and figure


def in_words(semantics: str) -> str:
    """Return `paper semantics: what the text of the original notebook describes`, the second line of a title."""
    return f"{semantics} semantics: {SEMANTICS_IN_WORDS[semantics]}"


def under(semantics: str) -> str:
    """Return `under paper semantics`, or `of models of timm`, which have no semantics."""
    return "of models of timm" if semantics == RIVAL else f"under {semantics} semantics"


class ValidationWords(NamedTuple):
    """Words for the accuracy over epochs: title and axis of its panel, and a sentence on the best epoch."""

    title: str
    axis: str
    selection: str


def validation_words(semantics: str) -> ValidationWords:
    """Return the words for the accuracy by which a semantics chooses its best epoch."""
    if SEMANTICS[semantics].validates_on_test:
        return ValidationWords(
            "Test accuracy (the original notebook calls it validation)",
            "Accuracy on the test set\n(used for selection), %",
            "The best epoch is chosen on the test set, as in the original notebook, so accuracies are optimistic.",
        )
    return ValidationWords(
        "Validation accuracy",
        "Validation accuracy\n(held out of the training set), %",
        "The best epoch is chosen on images held out of the training set; the test set is used once.",
    )


def with_interval(interval: Interval, *, unit: str = " %", digits: int = 2) -> str:
    """Return `31.20 ± 0.40 %`; `31.20 %` for one seed; `30.90 and 31.50 %` for two, the lower value first.

    Instead of ± 0 it says `31.20 %, equal for all seeds`.
    """
    if interval.all_equal:
        return f"{interval.mean:.{digits}f}{unit}, equal for all seeds"
    if interval.n == 2:
        return f"{both(interval.mean, interval.std, form=f'.{digits}f')}{unit}"
    half = "" if interval.n < 2 else f" ± {interval.half:.{digits}f}"
    return f"{interval.mean:.{digits}f}{half}{unit}"


def both(mean: float, std: float, *, form: str) -> str:
    """Return `30.90 and 31.50`, the two values of this mean and this standard deviation, in the format `form`."""
    return " and ".join(format(value, form) for value in two_values(mean, std))


def mean_of_row(row: Mapping, mean: str, std: str, interval: str, *, n: int, form: str) -> str:
    """Return `31.20 [30.80, 31.60]`; the value of one seed; both values of two; nothing without a seed.

    mean, std, interval: names of the columns of a row; those of the interval's ends begin with `interval`.
    """
    if n == 0:
        return ""
    if n == 2:
        return both(row[mean], row[std], form=form)
    text = format(row[mean], form)
    if n >= FEWEST_SEEDS:
        text += f" [{row[f'{interval}_low']:{form}}, {row[f'{interval}_high']:{form}}]"
    return text


def quantity(interval: Interval, *, unit: str) -> str:
    """Return a quantity with its interval, with digits that suit the mean, or more if the interval would read ± 0.

    The two values of two seeds have so many that they differ.
    """
    digits = 1 if interval.mean >= 10 else 2 if interval.mean >= 1 else 3
    if interval.n > 1 and not interval.all_equal:
        apart = interval.std if interval.n == 2 else interval.half
        digits = int(np.clip(np.ceil(-np.log10(apart)), digits, 5))
    return with_interval(interval, unit=f" {unit}", digits=digits)


def difference(paired: PairedDifference) -> str:
    """Return `+0.41 points (95 % interval -0.10 to +0.92 over 5 pairs, which includes 0)`; of two pairs, both."""
    if paired.n == 0:
        return "no seed in common, so no difference"
    if paired.n == 1:
        return f"{paired.mean:+.2f} points (one pair of seeds, so no interval)"
    if paired.n == 2 and paired.std < 1e-9:
        return f"{paired.mean:+.2f} points (equal in both pairs of seeds, so no interval)"
    if paired.n == 2:
        return f"{both(paired.mean, paired.std, form='+.2f')} points (two pairs of seeds, so no interval)"
    verdict = "excludes" if paired.excludes_zero else "includes"
    if paired.std < 1e-9:
        return (
            f"{paired.mean:+.2f} points (equal in all {paired.n} pairs, so the interval has no width and {verdict} 0)"
        )
    return (
        f"{paired.mean:+.2f} points (95 % interval {paired.low:+.2f} to {paired.high:+.2f} "
        f"over {paired.n} pairs, which {verdict} 0)"
    )


def span(values: Sequence[int]) -> str:
    """Return `5`, or `1 to 5` if the values differ."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def counted(values: Sequence[int], noun: str, plural: str = "") -> str:
    """Return `1 seed`, `5 seeds` or `1 to 5 seeds`; `plural` for a noun that does not add an s."""
    return f"{span(values)} {noun if max(values) == 1 else plural or noun + 's'}"


def measured_on(parts: Iterable[Mapping]) -> str:
    """Return `Measured on NVIDIA H200, torch 2.11.0, commit cab449e12345.`, each as its different values.

    parts: mappings with `device` and `versions`, as a result, a part of its `trained_by` or a sweep has them.
    """
    parts = list(parts)
    devices = distinct(part["device"]["name"] for part in parts)
    torch = distinct(part["versions"]["torch"] for part in parts)
    return f"Measured on {devices}, torch {torch}, commit {distinct(commit(part['versions']) for part in parts)}."


def commit(versions: Mapping) -> str:
    """Return the first 12 digits of the commit, and whether files differed from it."""
    if versions["git_commit"] is None:
        return "unknown"
    return versions["git_commit"][:12] + " with uncommitted changes" * bool(versions["git_dirty"])


def distinct(values: Iterable[str]) -> str:
    """Return the different values, joined, in the order of their first appearance."""
    return "; ".join(dict.fromkeys(values))


def shortened(label: str, *, lines: int) -> str:
    """Return a run's label for an axis, cut where it would touch its neighbours. The legend shows it whole."""
    return fill(label, 22, max_lines=lines, placeholder=" …")


def fill(text: str, columns: int, **options) -> str:
    """Return a text of a figure in lines of at most `columns` usual characters; `options` as of textwrap.fill."""
    text, fitting = drawable(text), columns
    while True:
        lines = textwrap.fill(text, fitting, **options)
        if (cut := options.get("placeholder", "")) and lines.endswith(cut.strip()):
            # textwrap leaves out a word that does not fit whole. Of a long name the start is shown.
            room = fitting - len(cut)
            words = (word if len(word) <= room else word[:room] + cut for word in text.split(" "))
            lines = textwrap.fill(" ".join(words), fitting, **options)
        needed = columns_of(lines)
        if needed <= columns or fitting <= 10:
            return lines
        fitting = max(10, min(fitting - 1, int(fitting * columns / needed)))


def columns_of(text: str) -> float:
    """Return the length of the longest line of a text, in characters, or more if they are wider than usual."""
    return max(max(len(line), width(line) / WIDE) for line in text.split("\n"))


def seeds_note(counts: Sequence[int], *, mean: str, spread: str, single: str) -> str:
    """Return what a figure draws for runs with `counts` random seeds: a mean with its interval, or single seeds.

    `mean`, `spread` and `single` name the marks for the mean, for its interval, and for a single seed.
    """
    if max(counts) == 1:
        return "n = 1, no interval: one seed per run."
    sentences = [f"{mean}: mean over seeds; {spread}: 95 % Student t interval over seeds."]
    if max(counts) < FEWEST_SEEDS:
        sentences = [f"{mean}: mean over seeds."]
    if 2 in counts:
        sentences.append(f"{single}: each seed where n = 2, which is too few for an interval.")
    if min(counts) == 1:
        sentences.append("A run with n = 1 has no interval.")
    return " ".join(sentences)


def right_to_left(text: str) -> bool:
    """Return whether a text contains letters that are written from right to left, as Arabic and Hebrew are."""
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def escape_rst(text: str) -> str:
    """Return `text` as one paragraph of reStructuredText that shows exactly this text, whatever names it contains.

    A backslash makes the character after it ordinary, also where it would make a link of an address (`scheme:`, `@`).
    A backslash and a space are nothing; at the start they keep the text from being a list, a directive or a title.
    """
    text = re.sub(r"([\\*`|_@]|:(?=\S))", r"\\\1", " ".join(text.split()))
    starts_with_a_word = re.match(r"\w+ |(?=\w\w)\w*[^\W\divxlcdmIVXLCDM]", text)  # a Roman number starts a list
    return text if starts_with_a_word else f"\\ {text}"


def plain_text(caption: str) -> str:
    """Return the text that a caption shows, which `escape_rst` wrote."""
    return re.sub(r"\\(.)", r"\1", caption.removeprefix("\\ ")).strip()
