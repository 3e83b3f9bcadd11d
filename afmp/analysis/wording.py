"""Words that figures and captions share: what a semantics is, numbers with intervals, reStructuredText."""

import re
import textwrap

import numpy as np

# Fewest seeds whose interval is drawn: over two, Student's t is 12.7 standard errors to either side.
FEWEST_SEEDS = 3
MEANING = {
    "paper": "the system the text describes",
    "notebook": "as the seed's code computes it",
}
ACCURACY_TITLE = {
    "paper": "Validation accuracy",
    "notebook": "Test accuracy, which the seed calls validation",
}
ACCURACY_AXIS = {
    "paper": "Validation accuracy\n(held out of train), %",
    "notebook": "Accuracy on the test set\n(used for selection), %",
}
SELECTION = {
    "paper": "The best epoch is chosen on images held out of train; the test set is read once.",
    "notebook": "The best epoch is chosen on the test set, as in the seed: accuracies are optimistic.",
}

UNCORRECTED = "without correction for the number of comparisons"


def with_interval(interval, *, unit: str = " %", digits: int = 2) -> str:
    """`31.20 ± 0.40 %`; `31.20 %` where one seed leaves no interval; `31.20 %, every seed alike`, not ± 0."""
    if interval.alike:
        return f"{interval.mean:.{digits}f}{unit}, every seed alike"
    half = "" if interval.n < 2 else f" ± {interval.half:.{digits}f}"
    return f"{interval.mean:.{digits}f}{half}{unit}"


def quantity(interval, *, unit: str) -> str:
    """A quantity with its interval: digits that suit the mean, more where the interval would read ± 0."""
    digits = 1 if interval.mean >= 10 else 2 if interval.mean >= 1 else 3
    if interval.n > 1 and not interval.alike:
        digits = int(np.clip(np.ceil(-np.log10(interval.half)), digits, 5))
    return with_interval(interval, unit=f" {unit}", digits=digits)


def difference(paired) -> str:
    """A paired difference: `+0.41 points (95 % interval -0.10 to +0.92 over 5 pairs, which includes 0)`."""
    if paired.n == 0:
        return "no seed in common, so no difference"
    if paired.n == 1:
        return f"{paired.mean:+.2f} points (one pair of seeds, so no interval)"
    verdict = "excludes" if paired.excludes_zero else "includes"
    if paired.std < 1e-9:
        return f"{paired.mean:+.2f} points (in each of {paired.n} pairs, an interval of no width that {verdict} 0)"
    return (
        f"{paired.mean:+.2f} points (95 % interval {paired.low:+.2f} to {paired.high:+.2f} "
        f"over {paired.n} pairs, which {verdict} 0)"
    )


def span(values) -> str:
    """`5`, or `1 to 5` where the runs differ."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def counted(values, noun: str, nouns: str = "") -> str:
    """`1 seed`, `5 seeds`, `1 to 5 seeds`; `nouns` where an s does not make the plural."""
    return f"{span(values)} {noun if max(values) == 1 else nouns or noun + 's'}"


def short(label: str, *, lines: int) -> str:
    """A run's label for beside an axis, where a long one would run into others; the legend has it whole."""
    return textwrap.fill(label, 22, max_lines=lines, placeholder=" …")


def over_seeds(counts, *, middle: str, spread: str, seeds: str) -> str:
    """What stands for the seeds of runs with `counts` seeds: a mean with its interval, each seed, or one seed alone.

    `middle`, `spread` and `seeds` are what a figure draws of the mean, of its interval, and of a seed.
    """
    if max(counts) == 1:
        return "n = 1, no interval: one seed a run."
    sentences = [f"{middle}: mean over seeds; {spread}: 95 % Student t interval over seeds."]
    if max(counts) < FEWEST_SEEDS:
        sentences = [f"{middle}: mean over seeds."]
    if 2 in counts:
        wide = "the 95 % interval of two, 12.7 standard errors to either side, is in the tables"
        sentences.append(f"{seeds}: each seed where n = 2; {wide}.")
    if min(counts) == 1:
        sentences.append("A run with n = 1 has no interval.")
    return " ".join(sentences)


def distinct(values) -> str:
    """The different values in order of first appearance, joined for a cell or a footer."""
    return "; ".join(dict.fromkeys(values))


def restructured(text: str) -> str:
    """`text` with the characters that mean something in reStructuredText escaped."""
    return re.sub(r"([\\*`|_])", r"\\\1", text)
