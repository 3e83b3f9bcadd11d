"""The answers to claims in words: what was tested, what was measured, and how many values it would take to tell."""

import math

from afmp.analysis import wording
from afmp.analysis.claims import Answer, Answered, Answers
from afmp.analysis.models import MODEL_NAMES
from afmp.analysis.printed_tables import SMALLEST_P
from afmp.analysis.verdicts import CANNOT_TELL, FAILS, MOST, VERDICTS
from afmp.study.claims import Claim
from afmp.study.study import Study

UNITS = {"difference": "points", "ratio": "reference / model", "exponents": "exponent of N"}
RELATIONS = {
    "higher": "is higher than",
    "lower": "is lower than",
    "equal": "equals",
    "not_lower": "is not lower than",
    "not_higher": "is not higher than",
}

WHOLE_STUDY = "snakemake all --cores 4 --resources gpu=1"


def too_short(answers: Answers, study: Study, whole: Study) -> str:
    """Return why most verdicts are `cannot tell`, in one line, if `study` is much shorter than `whole`; else nothing.

    Much shorter is half of the random seeds or of the epochs of a run that both have, or less. `whole`: the study of
    config.yaml of the project.
    """
    found = [one.verdict for one in answers.answered]
    shared = [
        (run.training.epochs, whole.runs[name].training.epochs)
        for name, run in study.runs.items()
        if name in whole.runs
    ]
    few_seeds = 2 * len(study.seeds) <= len(whole.seeds)
    few_epochs = any(2 * own <= of_whole for own, of_whole in shared)
    if 2 * found.count(CANNOT_TELL) <= len(found) or not (few_seeds or few_epochs):
        return ""
    of_study, of_whole = wording.counted([len(study.seeds)], "random seed"), f"{len(whole.seeds):,}"
    if shared:
        own_epochs, whole_epochs = zip(*shared, strict=True)
        of_study += f" and {wording.counted(own_epochs, 'epoch')} per run"
        of_whole += f" and {wording.span(whole_epochs)}"
    return (
        f"This study is too short to answer most claims: it has {of_study}, where config.yaml has {of_whole}. "
        f"`{WHOLE_STUDY}` runs that whole study."
    )


def tested(claim: Claim) -> str:
    """Return what is tested: `test accuracy of a is higher than that of b by more than 1 point`."""
    subjects = ", ".join(_name(claim, subject) for subject in claim.subjects)
    each = "each of " * (len(claim.subjects) > 1)
    margin = f" {'up to' if claim.expect == 'equal' else 'by more than'} {_margin(claim)}" * bool(claim.margin)
    that = f"{RELATIONS[claim.expect]} that of {_name(claim, claim.reference)}{margin}"
    return f"{_quantity(claim)} of {each}{subjects} {that}"


def measured(one: Answered) -> str:
    """Return what was measured for a claim under one semantics, in one line of words and numbers."""
    claim, answers = one.claim, one.answers
    found = [answer for answer in answers if not answer.lacking]
    if not found:
        return f"Not measured: {answers[0].lacking}."
    start = f"{_quantity(claim)}, {lead(claim)}"
    if len(answers) == 1:
        first, *others = facts(answers[0])
        return f"{start}: {'; '.join(filter(None, [with_minus(first), *others]))}."
    smallest, largest = (choose(found, key=lambda answer: answer.effect) for choose in (min, max))
    shown = with_minus(effect(smallest))
    if effect(smallest) != effect(largest):
        shown = f"{shown} ({what(smallest)}) to {with_minus(effect(largest))} ({what(largest)})"
    given = [answer.verdict for answer in answers]
    tally = ", ".join(f"{verdict} in {given.count(verdict)}" for verdict in VERDICTS if verdict in given)
    parts = [f"{start}: {shown}", f"{tally} of {len(answers)}"]
    parts += [f"{len(answers) - len(found)} not measured"] * (len(found) < len(answers))
    if _undecided(one):
        parts.append(f"{_most_to_tell(one)} to tell each")
    return "; ".join(parts) + "."


def short_cells(one: Answered) -> list[str]:
    """Return a claim that has a short text, its verdict, what was measured and how often, in few words."""
    return [_short_name(one), _short_verdict(one), _short_measured(one), _short_count(one)]


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
        shown = effect(found[0])
    else:
        ends = [choose(answer.effect for answer in found) for choose in (min, max)]
        shown = " to ".join(dict.fromkeys(_value(end, one.claim) for end in ends)) + _unit(one.claim)
    sizes = [size for answer in found for size in answer.comparison.resolutions]
    at = f", {wording.span(sizes)} px" if sizes else ""
    of_what = "exponent of N, " * (one.claim.of.kind == "exponents")
    lacking = len(one.answers) - len(found)
    but = f"; {lacking} of {len(one.answers)} not measured" if lacking else ""
    return f"{of_what}{lead(one.claim)}: {with_minus(shown)}{at}{but}"


def _short_count(one: Answered) -> str:
    """Return the number of random seeds or passes, and how many it takes to tell."""
    found = [answer for answer in one.answers if not answer.lacking]
    if not found:
        return "none"
    if all(answer.evidence.exact for answer in found):
        return "exact"
    count = wording.span([answer.evidence.n for answer in found]) + " passes" * one.claim.of.of_sweep
    return count + (f"; {_most_to_tell(one)} to tell" if _undecided(one) else "")


def _quantity(claim: Claim) -> str:
    return claim.of.name + f" ({claim.mode}, {claim.precision}, {claim.execution})" * claim.of.of_sweep


def lead(claim: Claim) -> str:
    """Return what the numbers are: `DeiT-Tiny / AFMP-Small`, or `each minus dense`."""
    subject = _name(claim, claim.subjects[0]) if len(claim.subjects) == 1 else "each"
    reference = _name(claim, claim.reference)
    return f"{reference} / {subject}" if claim.of.kind == "ratio" else f"{subject} minus {reference}"


def facts(answer: Answer) -> list[str]:
    """Return effect, n, p and the number that would tell, each a text of its own; or what is lacking."""
    if answer.lacking:
        return [answer.lacking, "", "", ""]
    p, needed = p_value(answer), to_tell(answer)
    if p:
        against = f" against {_margin(answer.comparison.claim)}" * bool(answer.comparison.claim.margin)
        shown = f"p {p}{against}" if p.startswith("<") else f"p = {p}{against}"
        p = "equal in all pairs" if p == wording.NO_P else shown
    n = f"n = {answer.evidence.n}" + f" {_values(answer)}" * (not answer.evidence.exact)
    return [effect(answer), n, p, needed and f"{needed} to tell"]


def effect(answer: Answer) -> str:
    """Return an effect with its interval, as `+1.71 [-0.89, +4.31] points` or `3.23 [3.20, 3.26]`."""
    claim, (low, high) = answer.comparison.claim, answer.interval
    interval = "" if math.isnan(low) else f" [{_value(low, claim)}, {_value(high, claim)}]"
    return f"{_value(answer.effect, claim)}{interval}{_unit(claim)}"


def effect_and_unit(answer: Answer) -> str:
    """Return an effect as `effect` does, and its unit always: `3.23 [3.20, 3.26] (reference / model)`."""
    claim = answer.comparison.claim
    return effect(answer) + f" ({UNITS[claim.of.kind]})" * (not _unit(claim))


def both_names(answer: Answer) -> tuple[str, str]:
    """Return the name of the run or the model, and of what it is compared with."""
    claim = answer.comparison.claim
    return _name(claim, answer.comparison.subject), _name(claim, claim.reference)


def with_minus(shown: str) -> str:
    """Return the text of an effect with the minus sign of print."""
    return shown.replace("-", "−")


def p_value(answer: Answer) -> str:
    """Return the adjusted p, or why there is none; nothing if no test is possible."""
    if math.isnan(answer.adjusted):
        return wording.NO_P if answer.evidence.is_enough and not answer.evidence.exact else ""
    return f"< {SMALLEST_P}" if answer.adjusted < SMALLEST_P else f"{answer.adjusted:#.2g}"


def what(answer: Answer) -> str:
    """Return what tells a comparison from the others of its claim: the run, or the size, or model and size."""
    claim = answer.comparison.claim
    sizes = " to ".join(f"{size:,} px" for size in answer.comparison.resolutions)
    subject = _name(claim, answer.comparison.subject)
    return ", ".join(filter(None, [subject if len(claim.subjects) > 1 or not sizes else "", sizes]))


def to_tell(answer: Answer) -> str:
    """Return how many values would tell, as `about 39 random seeds`; nothing if it is told or if that is unknown."""
    if answer.verdict != CANNOT_TELL or answer.lacking:
        return ""
    few = f"at least {wording.FEWEST_SEEDS}"
    return f"{_number(answer.needed) if answer.evidence.is_enough else few} {_values(answer)}"


def _undecided(one: Answered) -> list[Answer]:
    return [answer for answer in one.answers if answer.verdict == CANNOT_TELL and not answer.lacking]


def _most_to_tell(one: Answered) -> str:
    return to_tell(max(_undecided(one), key=_as_number))


def _as_number(answer: Answer) -> float:
    return (answer.needed or math.inf) if answer.evidence.is_enough else 0


def _number(needed: int | None) -> str:
    return f"about {needed:,}" if needed else f"more than {MOST:,}"


def _value(value: float, claim: Claim) -> str:
    if claim.of.kind != "ratio":
        return f"{value:+.2f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 0.1 else f"{value:#.3g}"


def _unit(claim: Claim) -> str:
    return " points" * (claim.of.kind == "difference")


def _margin(claim: Claim) -> str:
    if claim.of.kind == "ratio":
        return f"{100 * claim.margin:g} %"
    return f"{claim.margin:g}" + f" point{'s' * (claim.margin != 1)}" * (claim.of.kind == "difference")


def _name(claim: Claim, subject: str) -> str:
    return MODEL_NAMES.get(subject, subject) if claim.of.of_sweep else subject


def _values(answer: Answer) -> str:
    return "passes" if answer.comparison.claim.of.of_sweep else "random seeds"
