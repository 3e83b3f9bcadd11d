"""The numbers expected of a rerun of an archived study: expected.yaml, which `snakemake verify` checks."""

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml
from scipy import stats

from afmp.analysis.models import MODEL_NAMES
from afmp.analysis.ratios import ratios
from afmp.errors import AfmpError
from afmp.finished.opened_archive import OpenedArchive, archived_study, open_archive
from afmp.finished.study_difference import study_difference
from afmp.records import validate, write_text
from afmp.study.config_file import read_config
from afmp.study.paths import scalability_file
from afmp.study.study import Study

EXPECTED = "expected.yaml"

# One of 1,000 reruns of a run has a mean accuracy outside. A study of 18 runs then fails by chance in 2 of 100 reruns.
COVERAGE = 0.999
# With two seeds, an interval of this coverage extends 637 standard errors to each side and excludes nothing.
MIN_SEEDS = 3
# Relative. A sweep is measured once, so its spread is not known. Clock rate and temperature change a GPU's times by a
# few percent; peak memory changes only with versions.
TOLERANCES = {"time": 0.10, "peak_memory": 0.02}
RATIOS = {"ratios": "afmp_small", "refined_ratios": "afmp_refined_small"}  # key of the file: the AFMP in the ratio

HEADER = """\
# Numbers expected of a rerun of this study; `snakemake verify` compares every study of this configuration with them.
# test_accuracy: mean over n seeds in percent; low to high is a 99.9 % prediction interval from the archived seeds.
# scalability: geometric mean of DeiT-Tiny / AFMP-Small over all pairs of points; for sweeps on the same device only.
# refined_ratios are those of DeiT-Tiny / AFMP-refined-Small, if the sweep measured it.
"""


def write_expected(archive: Path | str) -> None:
    """Write <archive>/expected.yaml from the numbers of an archive. Raises AfmpError for fewer than MIN_SEEDS seeds."""
    expected = ranges_of(archive)
    validate(expected, "expected", where=Path(archive, EXPECTED))
    body = yaml.safe_dump(expected, sort_keys=False, default_flow_style=None, width=120)
    write_text(Path(archive, EXPECTED), HEADER + body)


def ranges_of(archive: Path | str) -> dict:
    """Return the content of expected.yaml as an archive gives it. Raises AfmpError for fewer than MIN_SEEDS seeds."""
    return ranges_of_records(open_archive(archive))


def ranges_of_records(opened: OpenedArchive) -> dict:
    """Return the ranges from the records of an opened archive. Raises AfmpError for fewer than MIN_SEEDS seeds."""
    study = opened.study
    result_paths = [path for path, record in opened.records.items() if record.kind == "result"]
    sweep_paths = list(map(scalability_file, study.swept_semantics))
    contents = opened.read_records([*result_paths, *sweep_paths])
    results, sweeps = ([contents[path] for path in paths] for paths in (result_paths, sweep_paths))
    if len(study.seeds) < MIN_SEEDS:
        raise AfmpError(
            f"{opened.folder}: a study of {len(study.seeds)} seeds does not show how much reruns differ; "
            f"archive one of {MIN_SEEDS} or more."
        )
    return {
        "format_version": 1,
        "test_accuracy": {
            semantics: {run: accuracy_range(values) for run, values in runs.items()}
            for semantics, runs in _accuracies(results).items()
        },
        "scalability": {
            sweep["semantics"]: {
                "device": sweep["device"]["name"],
                **{
                    ratio: {
                        mode: {key: _range(value, TOLERANCES[key]) for key, value in means.items()}
                        for mode, means in modes.items()
                    }
                    for ratio, modes in _mean_ratios(sweep).items()
                },
            }
            for sweep in sweeps
            if sweep["device"]["type"] == "cuda"  # on a CPU, times and memory vary too much between runs
        },
    }


def read_expected(path: Path | str) -> dict:
    """Return the content of an expected.yaml. Raises AfmpError as `read_config` does, and if it breaks its schema."""
    content = read_config(path)
    validate(content, "expected", where=path)
    return content


def applies_to(study: Study, archive: Path) -> bool:
    """Return whether a study is the archived one: the same resolved configuration in every key."""
    return study_difference(archived_study(archive).to_dict(), study.to_dict()) is None


def broken_ranges(expected: dict, results: list[dict], sweeps: list[dict]) -> list[str]:
    """Return a clause for each number of a study that is missing or outside its range."""
    found, broken = _accuracies(results), []
    for semantics, runs in expected["test_accuracy"].items():
        for run, allowed in runs.items():
            values, what = found[semantics][run], f"{run} [{semantics}]: mean test accuracy"
            if len(values) != allowed["n"]:
                broken.append(f"{what} of {allowed['n']} seeds expected, but {len(values)} have a valid result")
            elif not allowed["low"] <= np.mean(values) <= allowed["high"]:
                broken.append(f"{what} {np.mean(values):.2f} %, expected {allowed['low']} to {allowed['high']} %")
    measured = {sweep["semantics"]: sweep for sweep in sweeps}
    for semantics, allowed in expected["scalability"].items():
        sweep = measured.get(semantics)
        if sweep is None:
            broken.append(f"sweep [{semantics}]: expected, but there is no valid one")
        elif sweep["device"]["name"] == allowed["device"]:
            broken += _broken_ratios(allowed, _mean_ratios(sweep), semantics)
    return broken


def accuracy_range(values: list[float]) -> dict:
    """Return the prediction interval of the mean over as many new seeds (Student t), in percent, rounded outwards."""
    n, mean = len(values), float(np.mean(values))
    half = float(stats.t.ppf((1 + COVERAGE) / 2, n - 1) * np.std(values, ddof=1) * math.sqrt(2 / n))
    low, high = max(0.0, math.floor(100 * (mean - half)) / 100), min(100.0, math.ceil(100 * (mean + half)) / 100)
    return {"n": n, "mean": round(mean, 2), "low": low, "high": high}


def _broken_ratios(allowed: dict, found: dict, semantics: str) -> list[str]:
    return [
        f"sweep [{semantics}], {mode}: DeiT-Tiny / {MODEL_NAMES[model]} in {key} {value:.3f}, "
        f"expected {limits['low']} to {limits['high']}"
        for ratio, model in RATIOS.items()
        for mode, ranges in allowed.get(ratio, {}).items()
        for key, limits in ranges.items()
        if not limits["low"] <= (value := found.get(ratio, {}).get(mode, {}).get(key, math.nan)) <= limits["high"]
    ]


def _accuracies(results: list[dict]) -> dict[str, dict[str, list[float]]]:
    found = defaultdict(lambda: defaultdict(list))
    for result in results:
        found[result["semantics"]][result["run"]].append(result["test_accuracy"])
    return found


def _mean_ratios(sweep: dict) -> dict[str, dict[str, dict[str, float]]]:
    """Return geometric means over all pairs of points, by key of RATIOS, mode and key of TOLERANCES.

    An AFMP that was not measured has none; `ratios` is there also without a pair.
    """
    found = {"ratios": defaultdict(list)}
    keys = {model: key for key, model in RATIOS.items()}
    for ratio in ratios(sweep["points"]):
        modes = found.setdefault(keys[ratio.model], defaultdict(list))
        modes[ratio.setting["mode"]].append((ratio.time, ratio.peak_memory))
    return {
        key: {
            mode: dict(zip(TOLERANCES, np.exp(np.log(pairs).mean(axis=0)).tolist(), strict=True))
            for mode, pairs in modes.items()
        }
        for key, modes in found.items()
    }


def _range(value: float, tolerance: float) -> dict:
    return {"low": round(value * (1 - tolerance), 4), "high": round(value * (1 + tolerance), 4)}
