"""Text of a study's figure: legend, footer and caption, from the results themselves."""

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import paired_difference
from afmp.figures.parts.study_runs import (
    StudyRun,
    best_runs,
    facts_of,
    identical_runs,
    labels_of,
    other_references,
    resolution_note,
    study_runs,
    tied_labels,
)
from afmp.study.semantics import RIVAL, SEMANTICS


def title(study: dict) -> str:
    """Return the title of a study's figure: its section and its own title."""
    return f"{study['section']} {study['title']}".strip()


def facts_sentence(runs: list[StudyRun], *, also: str = "") -> str:
    """Return what the runs were computed on, and how their best epoch is chosen; `also` adds to what each run has."""
    facts = facts_of(runs)
    return (
        f"Dataset {facts['dataset']}, {facts['classes']} classes; {facts['seeds']}, {facts['epochs']} per run{also}; "
        f"{facts['device']}, torch {facts['torch']}. {facts['selection']}"
    )


def legend_texts(runs: list[StudyRun], semantics: str) -> tuple[list[str], str]:
    """Return one entry per run with its best accuracy, and the heading that explains the numbers."""
    counts = [len(run.results) for run in runs]
    entries = []
    for run in runs:
        entry = wording.with_interval(run.interval("best_val_accuracy"))
        if not SEMANTICS[semantics].validates_on_test:
            entry += f" (test {wording.with_interval(run.interval('test_accuracy'))})"
        if min(counts) != max(counts):
            entry += f", n\u00a0=\u00a0{len(run.results)}{', no interval' * (len(run.results) == 1)}"
        # In a line with letters that run from right to left, the numbers would change places.
        parts = [f"{run.label}:", entry] if wording.right_to_left(run.label) else [f"{run.label}: {entry}"]
        entries.append("\n".join(wording.fill(part, 120) for part in parts))
    heading = "best test accuracy"
    if not SEMANTICS[semantics].validates_on_test:
        heading = "best validation accuracy (and test accuracy at that epoch)"
    if max(counts) == 1:
        return entries, f"{heading}; n = 1, no interval"
    if max(counts) == 2:
        return entries, f"{heading}, the lower of two seeds first; n = {wording.counted(counts, 'seed')}"
    over = f"; n = {counts[0]} seeds" if min(counts) == max(counts) else " over n seeds"
    both = " (the two values where n = 2)" * (2 in counts)
    return entries, f"{heading}, mean ± half of the 95 % interval{over}{both}"


def footer(runs: list[StudyRun], semantics: str, *, cut: bool) -> list[str]:
    """Return the sentences below the panels; `cut` says whether an interval is cut."""
    bars = times_compare(runs) and any(run.interval("epoch_time_s").n >= wording.FEWEST_SEEDS for run in runs)
    seeds = wording.seeds_note(
        [len(run.results) for run in runs],
        mean="Line",
        spread=f"band{' and error bar' * bars}",
        single="Thin lines",
    )
    shown = ["best_val_accuracy"] + ["test_accuracy"] * (not SEMANTICS[semantics].validates_on_test)
    return [
        facts_sentence(runs),
        seeds + " Intervals are cut at the edge of the panel." * cut,
        _times_note(runs),
        rivals_note(runs, semantics),
        *[
            f"Lines coincide where runs are equal in every seed and epoch: {labels_of(group, runs)}."
            for group in identical_runs(runs)
        ],
        resolution_note(runs, *shown),
    ]


def rivals_note(runs: list[StudyRun], semantics: str) -> str:
    """Return which of the runs are models of timm, unless all are."""
    rivals = [run for run in runs if run.results[0]["semantics"] == RIVAL]
    return f"Models of timm, to compare with: {labels_of(rivals, runs)}." if rivals and semantics != RIVAL else ""


def times_compare(runs: list[StudyRun]) -> bool:
    """Return whether times of the runs can be compared.

    That is if none trained beside another on the same device, nor on a CPU, and all in stacks of as many seeds: the
    time of a seed in a stack is a part of that of the stack. CPU jobs run in parallel on one machine, and share its
    caches. No result says with how many others.
    """
    beside = any(result["trained_beside"] for run in runs for result in run.results)
    return not beside and not on_cpu(runs) and len(_sizes_of_stacks(runs)) <= 1


def _sizes_of_stacks(runs: list[StudyRun]) -> set[int]:
    return {len(result["trained_together"]) for run in runs for result in run.results}


def on_cpu(runs: list[StudyRun]) -> bool:
    """Return whether a result of the runs was trained on a CPU."""
    return any(result["device"]["type"] == "cpu" for run in runs for result in run.results)


def _times_note(runs: list[StudyRun]) -> str:
    """Return why there are no times, or what a run shared its time with: the other seeds of its run, other jobs."""
    results = [result for run in runs for result in run.results]
    if on_cpu(runs):
        return "Times per epoch are not shown: jobs may have shared the CPU, so they compare nothing."
    if len(_sizes_of_stacks(runs)) > 1:
        return "Times per epoch are not shown: some runs trained their seeds as one stack and others one after another."
    if not times_compare(runs):
        others = wording.counted([max(len(result["trained_beside"]) for result in results)], "other run")
        return f"Times per epoch are not shown: up to {others} trained on the device at the same time."
    sentences = []
    if any(len(result["trained_together"]) > 1 for result in results):
        sentences.append("Times: the seeds of a run trained together as one stack, so its time is measured once.")
    if any(run.interval("epoch_time_s").n == 2 for run in runs):
        sentences.append("Dots: the two times of a bar.")
    return " ".join(sentences)


def study_caption(study: dict, results: list[dict], *, question: str) -> str:
    """Return the caption in reStructuredText; it begins with the study's `question`."""
    runs, semantics = study_runs(study, results)
    facts = facts_of(runs)
    reference = next(run for run in runs if run.name == study["reference"])
    others = [run for run in runs if run.name != reference.name]
    best = "; ".join(_accuracy(group, runs) for group in best_runs(runs))
    sentences = [
        f"{question} {semantics.capitalize()} semantics ({wording.SEMANTICS_IN_WORDS[semantics]}), "
        f"dataset {facts['dataset']}, {facts['seeds']}, {facts['epochs']}, on {facts['device']}.",
        rivals_note(runs, semantics),
        f"Highest mean test accuracy: {best}.",
    ]
    for group in identical_runs(runs):
        sentences.append(f"Equal to the last digit in every seed and epoch: {labels_of(group, runs)}.")
    if others:
        sentences += _against_reference(reference, others)
    for run, other in zip(runs, other_references(study, runs), strict=True):
        if other is not None:
            pair = [by_seed(one.results, "test_accuracy") for one in (run, other)]
            sentences.append(f"{run.label} minus {other.label}: {wording.difference(paired_difference(*pair))}.")
    sentences += [resolution_note(runs, "test_accuracy"), wording.validation_words(semantics).selection]
    return wording.escape_rst(" ".join(filter(None, sentences)))


def _accuracy(group: list[StudyRun], runs: list[StudyRun]) -> str:
    accuracy = group[0].interval("test_accuracy")
    no_interval = ", no interval" * (accuracy.n == 1)
    return f"{tied_labels(group, runs)}, {wording.with_interval(accuracy)} (n = {accuracy.n}{no_interval})"


def _against_reference(reference: StudyRun, others: list[StudyRun]) -> list[str]:
    """Return the best other run against the reference, and how many others have an interval that excludes 0."""
    values = by_seed(reference.results, "test_accuracy")
    differences = {run.name: paired_difference(by_seed(run.results, "test_accuracy"), values) for run in others}
    best = "; ".join(
        f"{tied_labels(group, others)}, {wording.difference(differences[group[0].name])}" for group in best_runs(others)
    )
    sentences = [f"Best of the other runs, minus the reference {reference.label}: {best}."]
    known = [paired.excludes_zero for paired in differences.values() if paired.excludes_zero is not None]
    if len(known) > 1:
        sentences.append(
            f"The interval excludes 0 for {sum(known)} of the {len(known)} other runs, {wording.UNCORRECTED}."
        )
    return sentences
