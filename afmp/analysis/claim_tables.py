"""The table of claims: a row per comparison, a line per claim for publication, and plain text for a terminal."""

import math
from collections.abc import Iterator, Sequence

import pandas

from afmp.analysis import wording
from afmp.analysis.claims import Answer, Answered, Answers
from afmp.analysis.comparison import aligned
from afmp.analysis.models import MODEL_NAMES
from afmp.analysis.printed_tables import SMALLEST_P, PrintedTable
from afmp.analysis.verdicts import CANNOT_TELL, FAILS, HOLDS, MOST
from afmp.errors import printable
from afmp.study.claims import Claim

COLUMNS = (
    *(
        "name",
        "claim",
        "claim_verdict",
        "semantics",
        "quantity",
        "compared",
        "reference",
        "setting",
        "expect",
        "margin",
    ),
    *("verdict", "to_tell", "lacking", "effect", "unit", "ci95_low", "ci95_high", "n", "p_value", "adjusted_p_value"),
    *("correction", "figure", "command"),
)
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


def claims_table(answers: Answers) -> pandas.DataFrame:
    """Return a table with a row per comparison: the claim, what was compared, the evidence and the verdict."""
    rows = []
    for one, answer in _pairs(answers):
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
    return pandas.DataFrame(rows, columns=COLUMNS)


def claims_caption(answers: Answers) -> str:
    """Return how many claims hold, fail, or cannot be told, and what the numbers are, in reStructuredText."""
    return wording.escape_rst(" ".join([counts(answers), *_notes(answers)]))


def counts(answers: Answers) -> str:
    """Return `9 verdicts, each on a claim under one semantics: 4 holds, 2 fails, 3 cannot tell.` and those left out."""
    found = [one.verdict for one in answers.answered]
    sentences = []
    if found:
        tally = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)
        sentences.append(f"{wording.counted([len(found)], 'verdict')}, each on a claim under one semantics: {tally}.")
    if answers.left_out:
        of_claims = wording.counted([answers.left_out], "claim")
        are = "is" if answers.left_out == 1 else "are"
        sentences.append(f"{of_claims} {are} left out: this study has none of their runs, or no sweep.")
    return " ".join(sentences)


def _notes(answers: Answers) -> Sequence[str]:
    return NOTES if answers.answered else ()


def printed_claims(answers: Answers) -> list[PrintedTable]:
    """Return the claims arranged for publication: verdicts, comparisons, and the figure and command behind each."""
    answered = answers.answered
    verdicts = [[one.claim.words, one.semantics, one.verdict, measured(one)] for one in answered]
    comparisons = [
        [one.claim.name, one.semantics, _what(answer), answer.verdict, *_cells(answer)]
        for one, answer in _pairs(answers)
    ]
    sources = [[one.claim.name, one.semantics, one.figure or "none", one.command or "none"] for one in answered]
    header = ["Name", "Semantics", "Compared", "Verdict", "Effect", "n", "p", "To tell"]
    tables = [
        PrintedTable("claims", counts(answers), ["Claim", "Semantics", "Verdict", "Measured"], [verdicts]),
        PrintedTable("claims_comparisons", f"Every comparison. {' '.join(NOTES)}", header, [comparisons]),
        PrintedTable(
            "claims_sources",
            "The figure, below the results folder, and the command behind each claim.",
            ["Name", "Semantics", "Figure", "Command"],
            [sources],
        ),
    ]
    return tables if answered else tables[:1]


def short_claims(answers: Answers) -> PrintedTable:
    """Return the verdicts on the claims that have a short text, in few words, for README."""
    rows = [
        [_short_name(one), _short_verdict(one), _short_measured(one), _short_count(one)]
        for one in answers.answered
        if one.claim.short
    ]
    return PrintedTable("claims_short", counts(answers), ["Claim", "Verdict", "Measured", "Seeds"], [rows])


def _short_name(one: Answered) -> str:
    return one.claim.short + f" ({one.semantics})" * (len(one.claim.semantics) > 1)


def _short_verdict(one: Answered) -> str:
    count = [answer.verdict for answer in one.answers].count(FAILS)
    return one.verdict + f" in {count} of {len(one.answers)}" * (0 < count < len(one.answers))


def _short_measured(one: Answered) -> str:
    found = [answer for answer in one.answers if not answer.lacking]
    if not found:
        return "not measured"
    if len(found) == 1:
        shown = _effect(found[0])
    else:
        effects = [choose(answer.effect for answer in found) for choose in (min, max)]
        shown = " to ".join(dict.fromkeys(_value(effect, one.claim) for effect in effects)) + _unit(one.claim)
    sizes = [size for answer in found for size in answer.comparison.resolutions]
    at = f", {wording.span(sizes)} px" if sizes else ""
    of_what = "exponent of N, " * (one.claim.of.kind == "exponents")
    lacking = len(one.answers) - len(found)
    but = f"; {lacking} of {len(one.answers)} not measured" if lacking else ""
    return f"{of_what}{_lead(one.claim)}: {_printed(shown)}{at}{but}"


def _short_count(one: Answered) -> str:
    """Return the number of random seeds or passes, and how many it takes to tell."""
    found = [answer for answer in one.answers if not answer.lacking]
    if not found:
        return "none"
    if all(answer.evidence.exact for answer in found):
        return "exact"
    count = wording.span([answer.evidence.n for answer in found]) + " passes" * one.claim.of.of_sweep
    return count + (f"; {_most_to_tell(one)} to tell" if _undecided(one) else "")


def claims_text(answers: Answers) -> str:
    """Return the claims as plain text: the verdict on each, a line per comparison, and what the numbers are."""
    lines = [[counts(answers)], *(list(_lines(one)) for one in answers.answered), _notes(answers)]
    return "\n\n".join("\n".join(map(printable, block)) for block in lines if block)


def verdicts_text(answers: Answers) -> str:
    """Return only the verdicts as plain text, a line for each."""
    return "\n".join(map(printable, [counts(answers), *map(_headline, answers.answered)]))


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
    if _undecided(one):
        parts.append(f"{_most_to_tell(one)} to tell each")
    return "; ".join(parts) + "."


def _undecided(one: Answered) -> list[Answer]:
    return [answer for answer in one.answers if answer.verdict == CANNOT_TELL and not answer.lacking]


def _most_to_tell(one: Answered) -> str:
    return to_tell(max(_undecided(one), key=_as_number))


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
    claim, (low, high) = answer.comparison.claim, answer.interval
    interval = "" if math.isnan(low) else f" [{_value(low, claim)}, {_value(high, claim)}]"
    return f"{_value(answer.effect, claim)}{interval}{_unit(claim)}"


def _value(value: float, claim: Claim) -> str:
    if claim.of.kind != "ratio":
        return f"{value:+.2f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 0.1 else f"{value:#.3g}"


def _unit(claim: Claim) -> str:
    return " points" * (claim.of.kind == "difference")


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


def _pairs(answers: Answers) -> Iterator[tuple[Answered, Answer]]:
    for one in answers.answered:
        for answer in one.answers:
            yield one, answer
