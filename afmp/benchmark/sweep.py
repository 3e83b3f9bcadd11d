"""The scalability sweep: time and memory of AFMP-Small, DeiT-Tiny and AFMP-refined-Small over image sizes.

One process (`measurement`) measures all candidates of one size, precision and mode. The models are alive in it and
timed in turn, so a drift of the machine affects all alike. The failure of a candidate is recorded in its point, and
the sweep continues. This file does not import torch.
"""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from afmp.benchmark.candidates import candidates_of, describe, measured_candidate
from afmp.benchmark.device_limits import fit_to_device
from afmp.benchmark.progress import SweepProgress
from afmp.benchmark.settings import PATCH_SIZE, SweepSettings
from afmp.log import log
from afmp.machine.isolation import IsolatedCallError, run_isolated
from afmp.records import validate


def run_sweep(
    settings: SweepSettings,
    *,
    part_of: Sequence[int] = (),
    measured: Path | str | None = None,
    progress: Callable[[str], None] = log.info,
) -> dict[str, dict]:
    """Measure every pass of the settings; return the content of a scalability file for each semantics, validated.

    A point that ran out of memory has status "oom", one that failed otherwise "error". Raises AfmpError for a device
    that this machine lacks, or a value that the device lacks.

    - part_of: all resolutions of the sweep that these are a part of, if it is measured in parts. A part skips the
      points that the whole sweep skips because they would need days, so it may have no point.
    - measured: a file that keeps each measured group; an interrupted sweep resumes from it, and a repeated one measures
      only what the file lacks
    - progress: is called with one line of text per point
    """
    machine = run_isolated("afmp.benchmark.measurement:describe_device", {"device": settings.device})
    settings, sizes, skipped = fit_to_device(settings, machine, part_of=part_of)
    protocol = {key: getattr(settings, key) for key in ("warmup", "repeats", "seconds", "num_classes")}
    content = {
        "format_version": 2,
        "semantics": None,
        "device": machine["device"],
        "versions": machine["versions"],
        "protocol": protocol | {"cpu_threads": machine["cpu_threads"], "skipped": skipped},
        "points": [],
    }
    # The commit does not matter for a measurement: the code that measures does, and two commits may share it.
    libraries = {name: version for name, version in machine["versions"].items() if not name.startswith("git_")}
    conditions = protocol | {"cpu_threads": machine["cpu_threads"], "device": machine["device"], "versions": libraries}
    stored = SweepProgress(measured, conditions) if measured else None
    sweeps = {semantics: content | {"semantics": semantics, "points": []} for semantics in settings.semantics}
    common = protocol | {"device": machine["torch_device"]}
    candidates = candidates_of(settings)
    number, total = 0, len(sizes) * len(settings.precision) * len(settings.mode) * len(candidates)
    for (resolution, batch_size), precision, mode in product(sizes, settings.precision, settings.mode):
        setting = {"resolution": resolution, "batch_size": batch_size, "precision": precision, "mode": mode}
        group = {"setting": setting, "candidates": candidates}
        outcomes = stored and stored.find(group)
        origin = "" if outcomes is None else ", measured before"
        if outcomes is None:
            outcomes = _measure_group(candidates, setting | common)
            if stored:
                stored.add(group, outcomes)
        for candidate, outcome in zip(candidates, outcomes, strict=True):
            semantics, number = candidate["semantics"], number + 1
            without_semantics = {key: value for key, value in candidate.items() if key != "semantics"}
            point = without_semantics | setting | {"num_patches": (resolution // PATCH_SIZE) ** 2} | outcome
            for name in [semantics] if semantics else settings.semantics:
                sweeps[name]["points"].append(point)
            suffix = f" [{semantics}]" if semantics and len(settings.semantics) > 1 else ""
            progress(f"[{number}/{total}] {describe(point)}{suffix}: {_describe_outcome(point)}{origin}")
    for sweep in sweeps.values():
        validate(sweep, "scalability", where="scalability sweep")
    if stored:
        stored.finish()
    return sweeps


def _measure_group(candidates: list[dict], arguments: dict) -> list[dict]:
    """Return the outcomes of the candidates, measured together; one that fails is measured a second time alone.

    Two graphs may not fit together into memory that has room for each. And a crash of the process ends it for all.
    """
    if arguments["device"].startswith("cuda"):
        return _measure_together(candidates, arguments, reads=["memory", "time"])
    outcomes = _measure_together(candidates, arguments, reads=["time"])
    # Without CUDA, memory is that of the process and never shrinks, so each candidate's is read in its own process.
    for candidate, outcome in zip(candidates, outcomes, strict=True):
        if outcome["status"] == "ok":
            alone = _measure([candidate], arguments, reads=["memory"])[0]
            outcome |= {"memory": alone["memory"]} if alone["status"] == "ok" else alone
    return outcomes


def _measure_together(candidates: list[dict], arguments: dict, *, reads: list[str]) -> list[dict]:
    outcomes = _measure(candidates, arguments, reads=reads)
    if len(candidates) == 1:
        return outcomes
    return [
        outcome if outcome["status"] == "ok" else _measure([candidate], arguments, reads=reads)[0]
        for candidate, outcome in zip(candidates, outcomes, strict=True)
    ]


def _measure(candidates: list[dict], arguments: dict, *, reads: list[str]) -> list[dict]:
    job = {"candidates": list(map(measured_candidate, candidates)), "reads": reads}
    try:
        return run_isolated("afmp.benchmark.measurement:measure", arguments | job)
    except IsolatedCallError as error:  # the process ended, so no candidate has an outcome
        failed = {
            "status": "oom" if error.out_of_memory else "error",
            "error": str(error),
            "num_parameters": None,
            "implementation": None,
            "interleaved": False,
            "time_ms": None,
            "memory": None,
        }
        return [dict(failed) for _ in candidates]


def _describe_outcome(point: dict) -> str:
    if point["status"] == "ok":
        return f"{point['time_ms']['median']:.2f} ms, {point['memory']['peak_mb']:.0f} MB"
    return f"{'out of memory' if point['status'] == 'oom' else 'failed'} ({point['error']})"
