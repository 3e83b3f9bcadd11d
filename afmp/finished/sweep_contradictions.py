"""Contradictions in a sweep: where it disagrees with the study, its parts, its other semantics, or its own numbers.

Each one is the second half of a sentence that starts with the file's path.
"""

import math
from collections.abc import Iterator

import numpy as np

from afmp.analysis.models import AFMP_MODELS, MODELS_WITH_SEMANTICS
from afmp.benchmark.candidates import candidates_of
from afmp.benchmark.device_limits import fit_to_device
from afmp.benchmark.memory import MEGABYTE
from afmp.benchmark.settings import PATCH_SIZE, sweep_from_config
from afmp.finished.differences import differences

KEY = ("resolution", "batch_size", "precision", "mode", "model", "attention", "execution")
QUANTILES = {"min": 0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1}
# Each time in `all` is rounded to 0.1 microseconds; quantiles are not.
ROUNDED_MS = 1e-4


def of_sweep(sweep: dict, settings: dict) -> Iterator[str]:
    """Yield the contradictions of a valid sweep with section `scalability` of its study, and in its points."""
    protocol = {key: settings[key] for key in ("warmup", "repeats", "seconds", "num_classes")}
    yield from differences(sweep["protocol"], protocol, "the study says")
    found, wanted = sweep["device"]["type"], settings["device"].partition(":")[0]
    if wanted not in ("auto", found):
        yield f"device/type is {found!r}, the study says {wanted!r}"
    keys = [tuple(point[key] for key in KEY) for point in sweep["points"]]
    expected = list(_expected_keys(sweep, settings))
    if missing := [key for key in expected if key not in set(keys)]:
        yield f"has no point of {_words(missing[0])}, which the study asks for"
    elif foreign := [key for key in keys if key not in set(expected)]:
        yield f"has a point of {_words(foreign[0])}, which the study does not ask for"
    elif keys != expected:
        yield "has a point twice, or its points in another order than they are measured in"
    for key, point in zip(keys, sweep["points"], strict=True):
        yield from (f"point of {_words(key)}: {fault}" for fault in _of_point(point, sweep))


def of_two_sweeps(one: dict, other: dict) -> Iterator[str]:
    """Yield what differs between the sweeps of two semantics, which the same jobs measured."""
    for key in ("device", "versions", "protocol"):
        yield from differences(one, {key: other[key]}, f"the sweep of {other['semantics']} says")
    shared = [[p for p in sweep["points"] if p["model"] not in MODELS_WITH_SEMANTICS] for sweep in (one, other)]
    if shared[0] != shared[1]:
        yield f"its points of models without semantics are not those of the sweep of {other['semantics']}"


def of_counts(sweep: dict, counts: dict) -> Iterator[str]:
    """Yield where a sweep's numbers of parameters are not those that are counted."""
    for model in counts["models"]:
        points = [
            point
            for point in sweep["points"]
            if point["status"] == "ok"
            and point["model"] == model["model"]
            and (point["resolution"] == model["resolution"] or point["model"] in AFMP_MODELS)  # as many at every size
        ]
        wrong = {point["num_parameters"] for point in points} - {model["num_parameters"]}
        if wrong:
            yield f"num_parameters of {model['model']} is {min(wrong)}, counted are {model['num_parameters']}"


def _expected_keys(sweep: dict, settings: dict) -> Iterator[tuple]:
    resolutions = settings["resolutions"]
    asked = sweep_from_config(settings, resolutions=resolutions, semantics=[sweep["semantics"]])
    fitted, sizes, _ = fit_to_device(asked, {"device": sweep["device"]}, part_of=resolutions)
    for resolution, batch_size in sizes:
        for precision in fitted.precision:
            for mode in fitted.mode:
                for candidate in candidates_of(fitted):
                    point = {"resolution": resolution, "batch_size": batch_size, "precision": precision, "mode": mode}
                    yield tuple((candidate | point)[key] for key in KEY)


def _words(key: tuple) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(KEY, key, strict=True) if value is not None)


def _of_point(point: dict, sweep: dict) -> Iterator[str]:
    yield from differences(point, {"num_patches": (point["resolution"] // PATCH_SIZE) ** 2}, "its resolution gives")
    if point["status"] != "ok":  # the schema then allows no number
        return
    yield from _of_times(point["time_ms"], sweep["protocol"])
    yield from _of_memory(point["memory"], point["num_parameters"], sweep["device"]["type"])


def _of_times(time: dict, protocol: dict) -> Iterator[str]:
    if time["n"] != len(time["all"]) or time["n"] > protocol["repeats"]:
        yield f"time_ms/n is {time['n']}, but there are {len(time['all'])} times of {protocol['repeats']} at most"
        return
    for key, expected in zip(QUANTILES, np.quantile(time["all"], list(QUANTILES.values())), strict=True):
        if abs(time[key] - expected) > ROUNDED_MS:
            yield f"time_ms/{key} is {time[key]}, its times give {expected:.4f}"


def _of_memory(memory: dict, num_parameters: int, device: str) -> Iterator[str]:
    kinds = {"cuda": "cuda_allocator", "mps": "mps_driver", "cpu": "resident_set_growth"}
    yield from differences(memory, {"kind": kinds[device]}, "its device has")
    rest = memory["peak_mb"] - memory["weights_mb"] - memory["gradients_mb"] - memory["inputs_mb"]
    if not math.isclose(memory["activations_mb"], max(0, rest), rel_tol=1e-9, abs_tol=1e-6):
        yield f"memory/activations_mb is {memory['activations_mb']}, the other parts leave {max(0, rest):.6f}"
    if memory["weights_mb"] < 4 * num_parameters / MEGABYTE * (1 - 1e-9):
        yield f"memory/weights_mb is {memory['weights_mb']}, too little for {num_parameters} parameters"
