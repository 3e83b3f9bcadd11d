"""Results that are of another study than the one that is given, as when an overlay of the study is forgotten."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import read_plain_text
from afmp.finished.study_difference import study_difference
from afmp.records import MAX_RECORD_BYTES, read_result
from afmp.study.paths import table_file
from afmp.study.run_config import without_places
from afmp.study.study import Study

SHOWN_NAMES = 3  # of studies


def other_study(study: Study, results: Path | str) -> str | None:
    """Return in one line what the results in a folder are of, if most of its runs are not of `study`; else None.

    A run is of another study if `study` has no run of its name, or has it with other settings. One result of each run
    is read: the first that is valid.
    """
    runs = _one_result_of_each_run(Path(results))
    unlike = [difference for result in runs if (difference := _difference(study, result))]
    if 2 * len(unlike) <= len(runs):
        return None
    datasets = list(dict.fromkeys(str(result["dataset"]["name"]) for result in runs))
    return (
        f"{results}: most results there are of another configuration ({_listed('dataset', 'datasets', datasets)}; "
        f"{_names(Path(results), runs)}): {unlike[0]}. Is an overlay missing? Give all configuration files of that "
        "study: --configfile for snakemake, --config for afmp"
    )


def _one_result_of_each_run(results: Path) -> list[dict]:
    found: dict[Path, dict] = {}
    for path in sorted(results.glob("train/*/*/seed_*/results_*.json")):
        if path.parent.parent not in found:
            with suppress(AfmpError):  # damaged, or of another release: the checks of files say so
                found[path.parent.parent] = read_result(path)
    return list(found.values())


def _difference(study: Study, result: dict) -> str | None:
    """Return in words how the study differs from that of a result; None if it does not."""
    run, semantics = result["run"], result["semantics"]
    if (semantics, run) not in study.trainings:
        return f"the configuration that is given has no run {run!r} under {semantics}"
    derived, recorded = study.runs[run].without_places(), without_places(result["config"])
    unlike = study_difference(derived, recorded, f"{run}/config")
    return unlike and unlike.replace("config.yaml gives", "the configuration that is given says")


def _names(results: Path, runs: Sequence[dict]) -> str:
    """Return the names of the studies of a results folder; of its runs, if it has no table that says them."""
    with suppress(AfmpError, csv.Error):
        text = read_plain_text(results / table_file("summary"), max_bytes=MAX_RECORD_BYTES)
        if studies := list(
            dict.fromkeys(row["study"] for row in csv.DictReader(io.StringIO(text)) if row.get("study"))
        ):
            return _listed("study", "studies", studies)
    return _listed("run", "runs", list(dict.fromkeys(result["run"] for result in runs)))


def _listed(one: str, several: str, names: Sequence[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return f"{one if len(names) == 1 else several} {', '.join(names[:SHOWN_NAMES])}" + f" and {more} more" * (more > 0)
