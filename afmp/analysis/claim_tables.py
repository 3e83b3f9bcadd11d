"""The table of claims: a row per comparison, a line per claim for publication, and plain text for a terminal."""

from collections.abc import Iterator, Sequence

import pandas

from afmp.analysis import claim_wording, wording
from afmp.analysis.claims import Answer, Answered, Answers
from afmp.analysis.comparison import aligned
from afmp.analysis.printed_tables import PrintedTable
from afmp.analysis.verdicts import VERDICTS
from afmp.errors import printable

COLUMNS = (
    *("name", "claim", "claim_verdict", "semantics", "quantity", "compared", "reference", "setting", "expect"),
    *("margin", "verdict", "to_tell", "lacking", "effect", "unit", "ci95_low", "ci95_high", "n", "p_value"),
    *("adjusted_p_value", "correction", "figure", "command", "device", "torch_version", "git_commit"),
)
# Of the columns that break lines in LaTeX: parts of a line.
VERDICT_WIDTHS = {"Claim": 0.28, "Measured": 0.4}
COMPARISON_WIDTHS = {"Name": 0.12, "Compared": 0.1, "Reference": 0.08, "Setting": 0.16, "Effect": 0.14, "To tell": 0.08}
SOURCE_WIDTHS = {"Name": 0.16, "Figure": 0.2, "Command": 0.34}
NOTES = (
    "A claim holds if each of its comparisons holds, and fails if one fails.",
    "Accuracies and training steps: mean over n random seeds, paired by random seed, with its 95 % interval (Student's "
    f"t) if n is at least {wording.FEWEST_SEEDS}; paired t test.",
    "Sweep: ratio reference / model of medians over n passes, above 1 if the model needs less, with a 95 % interval "
    "from a bootstrap over blocks of passes of one measurement. Peak memory on CUDA is exact and has no interval.",
    "p: two-sided, against the margin of the claim (0 if it has none), adjusted after Holm for the comparisons of a "
    "claim under one semantics. The intervals are not adjusted, so one may exclude what p does not. Equality: two "
    "one-sided tests, each at 2.5 %.",
    "To tell: the number for which a verdict has a chance of 80 %, if effect and spread stay as they are.",
)

# Where a study lies, and what it was configured with, is no part of its records.
COMMANDS = "A command of snakemake also takes the --directory and --configfile of the study, if it was run with them."


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
                "to_tell": claim_wording.to_tell(answer),
                "lacking": answer.lacking,
                "effect": answer.effect,
                "unit": claim_wording.UNITS[claim.of.kind],
                "ci95_low": low,
                "ci95_high": high,
                "n": answer.evidence.n,
                "p_value": answer.p_value,
                "adjusted_p_value": answer.adjusted,
                "correction": claim.correction,
                "figure": one.figure,
                "command": one.command,
                "device": wording.distinct(part["device"]["name"] for part in answer.measured_by),
                "torch_version": wording.distinct(part["versions"]["torch"] for part in answer.measured_by),
                "git_commit": wording.distinct(wording.commit(part["versions"]) for part in answer.measured_by),
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
    return (*NOTES, *_measured_on(answers)) if answers.answered else ()


def _measured_on(answers: Answers) -> list[str]:
    """Return the sentence on what measured the claims; none if nothing was measured."""
    parts = [part for _, answer in _pairs(answers) for part in answer.measured_by]
    return [wording.measured_on(parts)] if parts else []


def printed_claims(answers: Answers) -> list[PrintedTable]:
    """Return the claims arranged for publication: verdicts, comparisons, and the figure and command behind each."""
    answered = answers.answered
    verdicts = [[one.claim.words, one.semantics, one.verdict, claim_wording.measured(one)] for one in answered]
    comparisons = [
        [
            one.claim.name,
            one.semantics,
            *(_with_label(answers, one, name) for name in claim_wording.both_names(answer)),
            _printed_setting(answer),
            answer.verdict,
            *_cells(answer),
        ]
        for one, answer in _pairs(answers)
    ]
    sources = [[one.claim.name, one.semantics, one.figure or "none", one.command or "none"] for one in answered]
    header = ["Name", "Semantics", "Compared", "Reference", "Setting", "Verdict", "Effect", "n", "p", "To tell"]
    said = " ".join([counts(answers), *_measured_on(answers)])
    tables = [
        PrintedTable("claims", said, ["Claim", "Semantics", "Verdict", "Measured"], [verdicts], VERDICT_WIDTHS),
        PrintedTable(
            "claims_comparisons",
            f"Every comparison. {' '.join(_notes(answers))}",
            header,
            [comparisons],
            COMPARISON_WIDTHS,
        ),
        PrintedTable(
            "claims_sources",
            "The figure, below the results folder, and the command behind each claim. " + COMMANDS,
            ["Name", "Semantics", "Figure", "Command"],
            [sources],
            SOURCE_WIDTHS,
        ),
    ]
    return tables if answered else tables[:1]


def _with_label(answers: Answers, one: Answered, name: str) -> str:
    """Return the name of a run or a model, and the label under which figures show the run."""
    label = answers.labels.get((one.claim.study, name), name)
    return name if label == name else f"{name} ({label})"


def short_claims(answers: Answers) -> PrintedTable:
    """Return the verdicts on the claims that have a short text, in few words, for README."""
    rows = [claim_wording.short_cells(one) for one in answers.answered if one.claim.short]
    return PrintedTable("claims_short", counts(answers), ["Claim", "Verdict", "Measured", "Seeds"], [rows])


def claims_text(answers: Answers) -> str:
    """Return the claims as plain text: the verdict on each, a line per comparison, and what the numbers are."""
    lines = [[counts(answers)], *(list(_lines(one)) for one in answers.answered), [*_notes(answers), *hints(answers)]]
    return "\n\n".join("\n".join(map(printable, block)) for block in lines if block)


def hints(answers: Answers) -> list[str]:
    """Return what to add to the commands behind the claims; nothing if none is of snakemake."""
    shown = any(one.command.startswith("snakemake") for one in answers.answered)
    return [COMMANDS] if shown else []


def verdicts_text(answers: Answers) -> str:
    """Return only the verdicts as plain text, a line for each."""
    return "\n".join(map(printable, [counts(answers), *map(_headline, answers.answered)]))


def _headline(one: Answered) -> str:
    return f"{one.verdict.upper()}: {one.claim.words} [{one.semantics}]"


def _lines(one: Answered) -> Iterator[str]:
    yield _headline(one)
    yield f"  {one.claim.name}: {claim_wording.tested(one.claim)}"
    yield f"  {claim_wording.lead(one.claim)}:"
    rows = [[claim_wording.what(answer), answer.verdict, *claim_wording.facts(answer)] for answer in one.answers]
    columns = list(zip(*rows, strict=True))
    yield from (f"    {line}" for line in aligned(columns, num_words=len(columns)))
    yield from (f"  {name}: {value}" for name, value in (("figure", one.figure), ("command", one.command)) if value)


def _cells(answer: Answer) -> list[str]:
    """Return effect with interval, n, adjusted p, and the number that would tell, as the cells of a printed table."""
    effect = "not measured" if answer.lacking else claim_wording.with_minus(claim_wording.effect_and_unit(answer))
    return [effect, str(answer.evidence.n), claim_wording.p_value(answer), claim_wording.to_tell(answer)]


def _printed_setting(answer: Answer) -> str:
    return f"{answer.comparison.claim.of.name}: {_setting(answer)}"


def _setting(answer: Answer) -> str:
    claim = answer.comparison.claim
    if not claim.of.of_sweep:
        return claim.study
    sizes = " to ".join(f"{size} px" for size in answer.comparison.resolutions)
    return f"{sizes}, {claim.mode}, {claim.precision}, {claim.execution}, {claim.attention} attention"


def _pairs(answers: Answers) -> Iterator[tuple[Answered, Answer]]:
    for one in answers.answered:
        for answer in one.answers:
            yield one, answer
