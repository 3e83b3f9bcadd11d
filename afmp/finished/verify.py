"""The verification of a finished study: every file is there and valid, and no two files contradict each other.

Nothing is made or repaired. A missing file is a fault like any other, and each fault names its file.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

from afmp.errors import AfmpError
from afmp.finished.check import Check
from afmp.finished.contradictions import of_weights
from afmp.finished.expected import EXPECTED, applies_to, broken_ranges, read_expected
from afmp.finished.finished_study import FinishedStudy, read_finished_study
from afmp.finished.hash_checks import hash_checks
from afmp.finished.output_checks import figure_checks, table_checks
from afmp.model.sizes import build_model
from afmp.study.paths import (
    PARAMETERS_FILE,
    WEIGHTS,
    diagnostics_file,
    result_file,
    result_files,
    scalability_file,
    weights_file,
)
from afmp.study.study import Study, resolve_study

SHOWN_FAULTS = 3  # of one check


def verify(
    config: dict,
    *,
    results: Path | str,
    dataset: Path | str,
    archives: Sequence[Path | str],
    say: Callable[[str], None] = print,
) -> None:
    """Check the results of the study `config` in the folder `results`: say PASS, FAIL or SKIP per check, and the count.

    dataset: the prepared dataset. archives: folders of archives; the expected.yaml of each applies if it archives this
    very study. Raises AfmpError with the count if a check fails.
    """
    passed, failed = 0, 0
    study, folders = resolve_study(config), list(map(Path, archives))
    for check in checks(study, Path(results), dataset=Path(dataset), archives=folders):
        if check.faults is None:
            say(f"SKIP  {check.subject}")
            continue
        say(f"FAIL  {check.subject}: {_summary(check.faults)}" if check.faults else f"PASS  {check.subject}")
        passed, failed = passed + (not check.faults), failed + bool(check.faults)
    say(f"{passed + failed} checks: {passed} passed, {failed} failed")
    if failed:
        raise AfmpError(
            f"{results}: {failed} of {passed + failed} checks failed; each FAIL names a file: delete it, and "
            "`snakemake all` makes it again."
        )


def _summary(faults: list[str]) -> str:
    more = len(faults) - SHOWN_FAULTS
    shown = [fault.rstrip(".") for fault in faults[:SHOWN_FAULTS]]
    return "; ".join(shown + [f"and {more} more"] * (more > 0))


def checks(study: Study, results: Path, *, dataset: Path, archives: list[Path]) -> Iterator[Check]:
    """Yield every check of a study, each after the checks of the files that its own files are made from."""
    finished = read_finished_study(study, results)

    def faults_of(paths: list[str]) -> list[str]:
        return [fault for path in paths for fault in finished.faults[path]]

    for semantics, run in product(study.semantics, study.runs):
        name = f"{run} [{semantics}], {len(study.seeds)} seeds"
        diagnostics = [diagnostics_file(semantics, run, seed) for seed in study.seeds]
        yield Check(f"results of {name}", faults_of(result_files(semantics, [run], study.seeds)))
        yield Check(f"diagnostics of {name}", faults_of(diagnostics))
        yield Check(f"weights of {name}", list(_weights_faults(finished, semantics, run)))
    for semantics in study.semantics:
        yield Check(f"sweep [{semantics}]", faults_of([scalability_file(semantics)]))
    yield Check("parameter counts", faults_of([PARAMETERS_FILE]))
    yield from hash_checks(finished, dataset)
    yield from figure_checks(finished)
    yield from table_checks(finished)
    yield from _expected_checks(finished, archives)


def _weights_faults(finished: FinishedStudy, semantics: str, run: str) -> Iterator[str]:
    config, model = finished.study.runs[run], None
    for seed in finished.study.seeds:
        result = finished.contents.get(result_file(semantics, run, seed))
        if result is None:
            yield f"seed {seed}: not checked, because it has no valid result"
            continue
        model = model or build_model(config, semantics=semantics, num_classes=result["dataset"]["num_classes"])
        for which, epoch in zip(WEIGHTS, (result["best_epoch"], config.training.epochs), strict=True):
            path = finished.results / weights_file(semantics, run, seed, which)
            about = {"run": run, "semantics": semantics, "seed": seed, "epoch": epoch}
            yield from (f"{path}: {fault}" for fault in of_weights(path, model, about, result))


def _expected_checks(finished: FinishedStudy, archives: list[Path]) -> Iterator[Check]:
    sound = {path: content for path, content in finished.contents.items() if not finished.faults[path]}
    results = [sound[path] for path in finished.trained if path in sound]
    sweeps = [sound[path] for path in map(scalability_file, finished.study.semantics) if path in sound]
    for path in sorted(path for folder in archives for path in folder.glob(f"*/{EXPECTED}")):
        try:
            expected = read_expected(path)
            if applies_to(finished.study, path.parent):
                yield Check(f"ranges of {path}", broken_ranges(expected, results, sweeps))
            else:
                yield Check(f"ranges of {path}: this study is not the archived one", None)
        except AfmpError as error:
            yield Check(f"ranges of {path}", [str(error)])
