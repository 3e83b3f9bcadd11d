"""Tables of the sweep: every point, the ratios DeiT-Tiny / AFMP, the fits; and their captions."""

from itertools import product

import pandas

from afmp.analysis import wording
from afmp.analysis.fits import crossing, fit_activations, fit_time
from afmp.analysis.models import AFMP_MODELS, MODEL_NAMES
from afmp.analysis.ratios import SETTING, ratios
from afmp.analysis.series import SETTINGS, Series, models_of, modes_of, series_of
from afmp.analysis.sweep_wording import largest_ratios, work_of_executions

TIMES = ("median", "q25", "q75", "min", "max", "n")
# Columns of the N above which DeiT-Tiny needs more than an AFMP.
CROSSINGS = {"crossing": "afmp_small", "crossing_refined": "afmp_refined_small"}
MEMORY = ("peak_mb", "reserved_mb", "weights_mb", "gradients_mb", "inputs_mb", "activations_mb")


def scalability_table(sweep: dict) -> pandas.DataFrame:
    """Return a table of a sweep with a row per point."""
    rows = []
    protocol = {key: value for key, value in sweep["protocol"].items() if key != "skipped"}
    for point in sweep["points"]:
        time, memory = point["time_ms"] or {}, point["memory"] or {}
        versions = {key: point.get(key, value) for key, value in sweep["versions"].items()}
        plain = {key: value for key, value in point.items() if key not in ("time_ms", "memory", *versions)}
        rows.append(
            {"semantics": sweep["semantics"]}
            | plain
            | {("passes" if key == "n" else f"time_{key}_ms"): time.get(key) for key in TIMES}
            | {key.replace("_mb", "_memory_mb"): memory.get(key) for key in MEMORY}
            | {"adamw_memory_mb": _adamw_mb(point["num_parameters"]) if memory else None}
            | {"memory_kind": memory.get("kind")}
            | {f"most_{key}" if key in ("warmup", "repeats") else key: value for key, value in protocol.items()}
            | {f"device_{key}": value for key, value in sweep["device"].items()}
            | {key if key.startswith("git") else f"{key}_version": value for key, value in versions.items()}
        )
    table = pandas.DataFrame(rows)
    numbers = [column for column in table if column.endswith(("_ms", "_mb"))]
    table = table.astype({column: "Float64" for column in numbers})
    return table.astype({"num_parameters": "Int64", "passes": "Int64"})


def _adamw_mb(num_parameters: int) -> float:
    # Two moments in fp32. The passes of the sweep have no optimizer, so this would add to their peak.
    return num_parameters * 2 * 4 / 2**20


def ratios_table(sweep: dict) -> pandas.DataFrame:
    """Return a table of DeiT-Tiny / `model`, an AFMP, with a row per setting that both were measured in."""
    rows = [
        {"semantics": sweep["semantics"], "model": ratio.model}
        | ratio.setting
        | {
            "attention": ratio.attention,
            "time_ratio": ratio.time,
            "peak_memory_ratio": ratio.peak_memory,
            "activations_ratio": ratio.activations,
        }
        for ratio in ratios(sweep["points"])
    ]
    numbers = ["time_ratio", "peak_memory_ratio", "activations_ratio"]
    return pandas.DataFrame(rows, columns=["semantics", "model", *SETTING, "attention", *numbers])


def fits_table(sweep: dict) -> pandas.DataFrame:
    """Return a table of the fits c0 + B (c1 N + c2 N^2), with a row per series of 3 or more sizes and quantity.

    Quantities are time in ms and activations in MB. CROSSINGS have a value for DeiT-Tiny only: the N above which it
    needs more than an AFMP in the same configuration. It is NaN if there is no such N, or if that is uncertain.
    """
    series = series_of(sweep)
    rows = []
    for quantity, fit_of in (("time_ms", fit_time), ("activations_mb", fit_activations)):
        fits = {one[:-1]: fit for one in series if (fit := fit_of(one)) is not None}
        for one in series:
            fit = fits.get(one[:-1])
            if fit is None:
                continue
            row = {"semantics": one.semantics, "model": one.model, "quantity": quantity, "mode": one.mode}
            row |= {key: getattr(one, key) for key in SETTINGS} | {"sizes": len(fit.sizes)}
            row |= {"largest_num_patches": int(fit.sizes[-1])}
            row |= {"largest_miss": fit.largest_miss}
            estimates = {f"c{power}": fit.coefficient(power) for power in range(3)}
            estimates |= {"quadratic_share": fit.quadratic_share, "local_slope": fit.slope}
            for name, model in CROSSINGS.items() if one.model == "deit_tiny" else ():
                if (afmp := fits.get(_afmp_key(one, model))) is not None:
                    estimates[name] = crossing(afmp, fit)
            for name, estimate in estimates.items():
                row |= {name: estimate.value, f"{name}_ci95_low": estimate.low, f"{name}_ci95_high": estimate.high}
            rows.append(row)
    columns = ["semantics", "model", "quantity", "mode", *SETTINGS, "sizes", "largest_num_patches", "largest_miss"]
    names = ("c0", "c1", "c2", "quadratic_share", "local_slope", *CROSSINGS)
    columns += [f"{name}{end}" for name in names for end in ("", "_ci95_low", "_ci95_high")]
    return pandas.DataFrame(rows, columns=columns)


def _afmp_key(deit: Series, model: str) -> tuple:
    # The key of an AFMP in the configuration of a series of DeiT-Tiny.
    return deit._replace(model=model, attention=None)[:-1]


def scalability_caption(sweeps: list[dict]) -> str:
    """Return how many points were measured, and the ratio at the largest size, in reStructuredText."""
    sentences = []
    for sweep in sweeps:
        status = [point["status"] for point in sweep["points"]]
        sentences.append(
            f"{sweep['semantics'].capitalize()} semantics on {sweep['device']['name']}: "
            f"{wording.counted([len(status)], 'point')}, "
            f"{status.count('oom')} out of memory, {status.count('error')} failed."
        )
        sentences += [largest_ratios(sweep), work_of_executions(sweep), *sweep["protocol"]["skipped"]]
    return wording.escape_rst(" ".join(sentences))


def ratios_caption(sweeps: list[dict]) -> str:
    """Return in how many settings each AFMP needs less time and less memory, in reStructuredText."""
    sentences = ["Above 1, AFMP needs less time or memory."]
    for sweep in sweeps:
        found, models = ratios(sweep["points"]), [model for model in models_of(sweep) if model in AFMP_MODELS]
        for mode, model in product(modes_of(sweep), models):
            pairs = [ratio for ratio in found if (ratio.setting["mode"], ratio.model) == (mode, model)]
            count = wording.counted([len(pairs)], "pair")
            sentence = f"{sweep['semantics'].capitalize()} semantics, {mode}: {count} of points"
            if pairs:
                sentence += (
                    f"; {MODEL_NAMES[model]} needs less time in {sum(ratio.time > 1 for ratio in pairs)} and less peak "
                    f"memory in {sum(ratio.peak_memory > 1 for ratio in pairs)}"
                )
            sentences.append(f"{sentence}.")
    return wording.escape_rst(" ".join(sentences))


def fits_caption(table: pandas.DataFrame) -> str:
    """Return the number of fits, their slopes at large N and the share of N² in them, in reStructuredText."""
    sentences = [
        f"{wording.counted([len(table)], 'fit')} of time and activations per image over the number of patches N."
    ]
    for (semantics, model), rows in table[table["quantity"] == "time_ms"].groupby(["semantics", "model"], sort=False):
        slopes, shares = rows["local_slope"], 100 * rows["quadratic_share"]
        none = (shares == 0) | (rows["quadratic_share_ci95_low"] == 0)  # a share of 0 may have no interval
        sentences.append(
            f"{MODEL_NAMES.get(model, model)} in the sweep of {semantics}: local slope of time over N between the two "
            f"largest sizes {slopes.min():.2f} to {slopes.max():.2f} (1 is linear, 2 quadratic). c2 N² is "
            f"{shares.min():.0f} to {shares.max():.0f} % of the fitted time at the largest N; 0 is within its interval "
            f"in {none.sum()} of {wording.counted([len(rows)], 'fit')}."
        )
    return wording.escape_rst(" ".join(sentences))
