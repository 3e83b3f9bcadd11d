"""What a rerun of an archived study should give: expected.yaml, made from the archive, held by `snakemake verify`."""

import json
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from scipy import stats

from afmp.analysis.ratios import ratios
from afmp.errors import AfmpError
from afmp.finished.archive import open_archive
from afmp.records import read_json, read_result, read_scalability, validate, write_text
from afmp.study.paths import result_files, scalability_file
from afmp.study.study import Study

EXPECTED = "expected.yaml"

# Of a thousand reruns of a run, one has its mean accuracy outside. A study of 18 runs then fails by chance in 2 of 100.
COVERAGE = 0.999
# From two seeds, an interval of such a coverage is 637 standard errors to either side, and excludes nothing.
MIN_SEEDS = 3
# A sweep is measured once, and cannot say itself how far it spreads. Clocks and temperature move the times of a card by
# a few percent; what the allocator holds changes only with versions.
TOLERANCES = {"time": 0.10, "peak_memory": 0.02}

HEADER = """\
# What a rerun of this study should give; `snakemake verify` holds a study with this very configuration to it.
# test_accuracy: where the mean over n seeds lies, in percent; a 99.9 % prediction interval from the archived seeds.
# scalability, on the same device: the geometric mean of DeiT-Tiny / AFMP-Small over all pairs of points.
"""


def write_expected(archive: Path | str) -> None:
    """Write <archive>/expected.yaml from the numbers of an archive. Raises AfmpError below MIN_SEEDS."""
    archive = Path(archive)
    with open_archive(archive) as folder:
        study = read_json(folder / "study.json")
        results = [
            read_result(folder / path)
            for semantics in study["semantics"]
            for path in result_files(semantics, study["runs"], study["seeds"])
        ]
        sweeps = [read_scalability(folder / scalability_file(semantics)) for semantics in study["semantics"]]
    if len(study["seeds"]) < MIN_SEEDS:
        raise AfmpError(
            f"{archive}: a study of {len(study['seeds'])} seeds does not say how far a rerun may lie; "
            f"archive one of {MIN_SEEDS} or more."
        )
    expected = {
        "format_version": 1,
        "test_accuracy": {
            semantics: {run: accuracy_range(values) for run, values in runs.items()}
            for semantics, runs in _accuracies(results).items()
        },
        "scalability": {
            sweep["semantics"]: {
                "device": sweep["device"]["name"],
                "ratios": {
                    mode: {key: _range(value, TOLERANCES[key]) for key, value in means.items()}
                    for mode, means in _mean_ratios(sweep).items()
                },
            }
            for sweep in sweeps
            if sweep["device"]["type"] == "cuda"  # on a CPU neither times nor resident memory repeat so well
        },
    }
    validate(expected, "expected", where=archive / EXPECTED)
    body = yaml.safe_dump(expected, sort_keys=False, default_flow_style=None, width=120)
    write_text(archive / EXPECTED, HEADER + body)


def read_expected(path: Path | str) -> dict:
    """Read one expected.yaml, checked against schemas/expected.schema.yaml. Raises AfmpError that names the file."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AfmpError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    validate(content, "expected", where=path)
    return content


def applies_to(study: Study, archive: Path) -> bool:
    """Whether a study is the archived one: the same resolved configuration, to the last key."""
    return read_json(archive / "study.json") == json.loads(json.dumps(asdict(study)))


def broken_ranges(expected: dict, results: list[dict], sweeps: list[dict]) -> list[str]:
    """A clause for each number of a study that lies outside its range, or is not there."""
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
            broken += _broken_ratios(allowed["ratios"], _mean_ratios(sweep), semantics)
    return broken


def accuracy_range(values: list[float]) -> dict:
    """Where the mean of as many new seeds lies (Student t), in percent, outwards to two digits."""
    n, mean = len(values), float(np.mean(values))
    half = float(stats.t.ppf((1 + COVERAGE) / 2, n - 1) * np.std(values, ddof=1) * math.sqrt(2 / n))
    low, high = max(0.0, math.floor(100 * (mean - half)) / 100), min(100.0, math.ceil(100 * (mean + half)) / 100)
    return {"n": n, "mean": round(mean, 2), "low": low, "high": high}


def _broken_ratios(allowed: dict, found: dict, semantics: str) -> list[str]:
    return [
        f"sweep [{semantics}], {mode}: DeiT-Tiny / AFMP-Small in {key} {value:.3f}, "
        f"expected {limits['low']} to {limits['high']}"
        for mode, ranges in allowed.items()
        for key, limits in ranges.items()
        if not limits["low"] <= (value := found.get(mode, {}).get(key, math.nan)) <= limits["high"]
    ]


def _accuracies(results: list[dict]) -> dict[str, dict[str, list[float]]]:
    found = defaultdict(lambda: defaultdict(list))
    for result in results:
        found[result["semantics"]][result["run"]].append(result["test_accuracy"])
    return found


def _mean_ratios(sweep: dict) -> dict[str, dict[str, float]]:
    """Geometric means of DeiT-Tiny / AFMP-Small over all pairs of points, by mode and by TOLERANCES' keys."""
    found: dict[str, list] = defaultdict(list)
    for ratio in ratios(sweep["points"]):
        found[ratio.setting["mode"]].append((ratio.time, ratio.peak_memory))
    return {
        mode: dict(zip(TOLERANCES, np.exp(np.log(pairs).mean(axis=0)).tolist(), strict=True))
        for mode, pairs in found.items()
    }


def _range(value: float, tolerance: float) -> dict:
    return {"low": round(value * (1 - tolerance), 4), "high": round(value * (1 + tolerance), 4)}
