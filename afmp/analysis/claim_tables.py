"""The table of claims: a row per comparison, a line per claim for publication, and plain text for a terminal."""

import math
from collections.abc import Iterator, Sequence

import pandas

from afmp.analysis import wording
from afmp.analysis.claims import Answer, Answered
from afmp.analysis.comparison import aligned
from afmp.analysis.models import MODEL_NAMES
from afmp.analysis.printed_tables import SMALLEST_P, PrintedTable
from afmp.analysis.verdicts import CANNOT_TELL, FAILS, HOLDS, MOST
from afmp.errors import printable
from afmp.study.claims import Claim

UNITS = {"difference": "points", "ratio": "reference / model", "exponents": "exponent of N"}
VERDICTS = (HOLDS, FAILS, CANNOT_TELL)
RELATIONS = {
    "higher": "is higher than",
    "lower": "is lower than",
    "equal": "equals",
    "not_lower": "is not lower than",
    "not_higher": "is not higher than",
}
NOTES = (
    "A claim holds if each of its comparisons holds, and fails if one fails.",
    "Accuracies and training steps: mean over n random seeds, paired by random seed, with its 95 % interval (Student's "
    f"t) if n is at least {wording.FEWEST_SEEDS}; paired t test.",
    "Sweep: ratio reference / model of medians over n passes, above 1 if the model needs less, with a 95 % interval "
    "from a bootstrap over blocks of passes of one measurement. Peak memory on CUDA is exact and has no interval.",
    "p: two-sided, adjusted after Holm for the comparisons of a claim under one semantics. The intervals are not "
    "adjusted, so one may exclude what p does not. Equality: two one-sided tests, each at 2.5 %.",
    "To tell: the number for which a verdict has a chance of 80 %, if effect and spread stay as they are.",
)


def claims_table(answered: Sequence[Answered]) -> pandas.DataFrame:
    """Return a table with a row per comparison: the claim, what was compared, the evidence and the verdict."""
    rows = []
    for one, answer in _pairs(answered):
        claim, (low, high) = one.claim, answer.interval
        rows.append(
            {
                "name": claim.name,
                "claim": claim.words,
                "claim_verdict": one.verdict,
                "semantics": one.semantics,
                "quantity": claim.quantity,
                "compared": answer.comparison.subject,
                "reference": claim.reference,
                "setting": _setting(answer),
                "expect": claim.expect,
                "margin": claim.margin,
                "verdict": answer.verdict,
                "to_tell": to_tell(answer),
                "lacking": answer.lacking,
                "effect": answer.effect,
                "unit": UNITS[claim.of.kind],
                "ci95_low": low,
                "ci95_high": high,
                "n": answer.evidence.n,
                "p_value": answer.p_value,
                "adjusted_p_value": answer.adjusted,
                "correction": claim.correction,
                "figure": one.figure,
                "command": one.command,
            }
        )
    return pandas.DataFrame(rows)


def claims_caption(answered: Sequence[Answered]) -> str:
    """Return how many claims hold, fail, or cannot be told, and what the numbers are, in reStructuredText."""
    return wording.escape_rst(f"{counts(answered)} {' '.join(NOTES)}")


def counts(answered: Sequence[Answered]) -> str:
    """Return `9 verdicts, each on a claim under one semantics: 4 holds, 3 fails, 2 cannot tell.`"""
    found = [one.verdict for one in answered]
    tally = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)
    return f"{wording.counted([len(found)], 'verdict')}, each on a claim under one semantics: {tally}."


def printed_claims(answered: Sequence[Answered]) -> list[PrintedTable]:
    """Return the claims arranged for publication: verdicts, comparisons, and the figure and command behind each."""
    verdicts = [[one.claim.words, one.semantics, one.verdict, measured(one)] for one in answered]
    comparisons = [
        [one.claim.name, one.semantics, _what(answer), answer.verdict, *_cells(answer)]
        for one, answer in _pairs(answered)
    ]
    sources = [[one.claim.name, one.semantics, one.figure or "none", one.command or "none"] for one in answered]
    header = ["Name", "Semantics", "Compared", "Verdict", "Effect", "n", "p", "To tell"]
    return [
        PrintedTable("claims", counts(answered), ["Claim", "Semantics", "Verdict", "Measured"], [verdicts]),
        PrintedTable("claims_comparisons", f"Every comparison. {' '.join(NOTES)}", header, [comparisons]),
        PrintedTable(
            "claims_sources",
            "The figure, below the results folder, and the command behind each claim.",
            ["Name", "Semantics", "Figure", "Command"],
            [sources],
        ),
    ]


def claims_text(answered: Sequence[Answered]) -> str:
    """Return the claims as plain text: the verdict on each, a line per comparison, and what the numbers are."""
    lines = [[counts(answered)], *(list(_lines(one)) for one in answered), NOTES]
    return "\n\n".join("\n".join(map(printable, block)) for block in lines)


def verdicts_text(answered: Sequence[Answered]) -> str:
    """Return only the verdicts as plain text, a line for each."""
    return "\n".join(map(printable, [counts(answered), *map(_headline, answered)]))


def _headline(one: Answered) -> str:
    return f"{one.verdict.upper()}: {one.claim.words} [{one.semantics}]"


def _lines(one: Answered) -> Iterator[str]:
    yield _headline(one)
    yield f"  {one.claim.name}: {tested(one.claim)}"
    yield f"  {_lead(one.claim)}:"
    rows = [[_what(answer), answer.verdict, *_facts(answer)] for answer in one.answers]
    columns = list(zip(*rows, strict=True))
    yield from (f"    {line}" for line in aligned(columns, num_words=len(columns)))
    yield from (f"  {name}: {value}" for name, value in (("figure", one.figure), ("command", one.command)) if value)


def _facts(answer: Answer) -> list[str]:
    """Return effect, n, p and the number that would tell, each a text of its own; or what is lacking."""
    if answer.lacking:
        return [answer.lacking, "", "", ""]
    p, needed = _p(answer), to_tell(answer)
    if p:
        p = "equal in all pairs" if p == wording.NO_P else f"p {p}" if p.startswith("<") else f"p = {p}"
    n = f"n = {answer.evidence.n}" + f" {_values(answer)}" * (not answer.evidence.exact)
    return [_effect(answer), n, p, needed and f"{needed} to tell"]


def _cells(answer: Answer) -> list[str]:
    """Return effect with interval, n, adjusted p, and the number that would tell, as the cells of a printed table."""
    effect = "not measured" if answer.lacking else _printed(_effect(answer))
    return [effect, str(answer.evidence.n), _p(answer), to_tell(answer)]


def _printed(effect: str) -> str:
    return effect.replace("-", "−")


def tested(claim: Claim) -> str:
    """Return what is tested: `test accuracy of a is higher than that of b by more than 1 point`."""
    subjects = ", ".join(_name(claim, subject) for subject in claim.subjects)
    each = "each of " * (len(claim.subjects) > 1)
    margin = f" {'up to' if claim.expect == 'equal' else 'by more than'} {_margin(claim)}" * bool(claim.margin)
    that = f"{RELATIONS[claim.expect]} that of {_name(claim, claim.reference)}{margin}"
    return f"{_quantity(claim)} of {each}{subjects} {that}"


def _quantity(claim: Claim) -> str:
    return claim.of.name + f" ({claim.mode}, {claim.precision}, {claim.execution})" * claim.of.of_sweep


def measured(one: Answered) -> str:
    """Return what was measured for a claim under one semantics, in one line of words and numbers."""
    claim, answers = one.claim, one.answers
    found = [answer for answer in answers if not answer.lacking]
    if not found:
        return f"Not measured: {answers[0].lacking}."
    lead = f"{_quantity(claim)}, {_lead(claim)}"
    if len(answers) == 1:
        effect, *others = _facts(answers[0])
        return f"{lead}: {'; '.join(filter(None, [_printed(effect), *others]))}."
    smallest, largest = (choose(found, key=lambda answer: answer.effect) for choose in (min, max))
    shown = _printed(_effect(smallest))
    if _effect(smallest) != _effect(largest):
        shown = f"{shown} ({_what(smallest)}) to {_printed(_effect(largest))} ({_what(largest)})"
    given = [answer.verdict for answer in answers]
    tally = ", ".join(f"{verdict} in {given.count(verdict)}" for verdict in VERDICTS if verdict in given)
    parts = [f"{lead}: {shown}", f"{tally} of {len(answers)}"]
    parts += [f"{len(answers) - len(found)} not measured"] * (len(found) < len(answers))
    undecided = [answer for answer in found if answer.verdict == CANNOT_TELL]
    if undecided:
        parts.append(f"{to_tell(max(undecided, key=_as_number))} to tell each")
    return "; ".join(parts) + "."


def _lead(claim: Claim) -> str:
    """Return what the numbers are: `DeiT-Tiny / AFMP-Small`, or `each minus dense`."""
    subject = _name(claim, claim.subjects[0]) if len(claim.subjects) == 1 else "each"
    reference = _name(claim, claim.reference)
    return f"{reference} / {subject}" if claim.of.kind == "ratio" else f"{subject} minus {reference}"


def to_tell(answer: Answer) -> str:
    """Return how many values would tell, as `about 39 random seeds`; nothing if it is told or if that is unknown."""
    if answer.verdict != CANNOT_TELL or answer.lacking:
        return ""
    few = f"at least {wording.FEWEST_SEEDS}"
    return f"{_number(answer.needed) if answer.evidence.is_enough else few} {_values(answer)}"


def _as_number(answer: Answer) -> float:
    return (answer.needed or math.inf) if answer.evidence.is_enough else 0


def _number(needed: int | None) -> str:
    return f"about {needed:,}" if needed else f"more than {MOST:,}"


def _effect(answer: Answer) -> str:
    """Return an effect with its interval, as `+1.71 [-0.89, +4.31] points` or `3.23 [3.20, 3.26]`."""
    kind, (low, high) = answer.comparison.claim.of.kind, answer.interval

    def form(value: float) -> str:
        if kind != "ratio":
            return f"{value:+.2f}"
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 0.1 else f"{value:#.3g}"

    interval = "" if math.isnan(low) else f" [{form(low)}, {form(high)}]"
    return f"{form(answer.effect)}{interval}{' points' * (kind == 'difference')}"


def _p(answer: Answer) -> str:
    if math.isnan(answer.adjusted):
        return wording.NO_P if answer.evidence.is_enough and not answer.evidence.exact else ""
    return f"< {SMALLEST_P}" if answer.adjusted < SMALLEST_P else f"{answer.adjusted:#.2g}"


def _what(answer: Answer) -> str:
    """Return what tells a comparison from the others of its claim: the run, or the size, or model and size."""
    claim = answer.comparison.claim
    sizes = " to ".join(f"{size:,} px" for size in answer.comparison.resolutions)
    subject = _name(claim, answer.comparison.subject)
    return ", ".join(filter(None, [subject if len(claim.subjects) > 1 or not sizes else "", sizes]))


def _margin(claim: Claim) -> str:
    if claim.of.kind == "ratio":
        return f"{100 * claim.margin:g} %"
    return f"{claim.margin:g}" + f" point{'s' * (claim.margin != 1)}" * (claim.of.kind == "difference")


def _name(claim: Claim, subject: str) -> str:
    return MODEL_NAMES.get(subject, subject) if claim.of.of_sweep else subject


def _setting(answer: Answer) -> str:
    claim = answer.comparison.claim
    if not claim.of.of_sweep:
        return claim.study
    sizes = " to ".join(f"{size} px" for size in answer.comparison.resolutions)
    return f"{sizes}, {claim.mode}, {claim.precision}, {claim.execution}, {claim.attention} attention"


def _values(answer: Answer) -> str:
    return "passes" if answer.comparison.claim.of.of_sweep else "random seeds"


def _pairs(answered: Sequence[Answered]) -> Iterator[tuple[Answered, Answer]]:
    for one in answered:
        for answer in one.answers:
            yield one, answer
