"""Tables of the sweep: every point, the ratios DeiT-Tiny / AFMP-Small, the fits; and their captions."""

import pandas

from afmp.analysis import wording
from afmp.analysis.fits import crossing, fit_activations, fit_time
from afmp.analysis.ratios import ratios
from afmp.analysis.series import SETTINGS, Series, modes_of, series_of
from afmp.analysis.sweep_wording import largest_ratio

TIMES = ("median", "q25", "q75", "min", "max", "n")
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
    """Return a table of DeiT-Tiny / AFMP-Small with a row per setting that both models were measured in."""
    rows = [
        {"semantics": sweep["semantics"]}
        | ratio.setting
        | {
            "attention": ratio.attention,
            "time_ratio": ratio.time,
            "peak_memory_ratio": ratio.peak_memory,
            "activations_ratio": ratio.activations,
        }
        for ratio in ratios(sweep["points"])
    ]
    columns = ["semantics", "resolution", "num_patches", "batch_size", "precision", "mode", "execution", "attention"]
    return pandas.DataFrame(rows, columns=[*columns, "time_ratio", "peak_memory_ratio", "activations_ratio"])


def fits_table(sweep: dict) -> pandas.DataFrame:
    """Return a table of the fits c0 + B (c1 N + c2 N^2), with a row per series of 3 or more sizes and quantity.

    Quantities are time in ms and activations in MB. `crossing` has a value for DeiT-Tiny only: the N above which it
    needs more than AFMP-Small in the same configuration. It is NaN if there is no such N, or if that is uncertain.
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
            row |= {"quadratic_share": fit.quadratic_share, "largest_miss": fit.largest_miss}
            estimates = {f"c{power}": fit.coefficient(power) for power in range(3)} | {"local_slope": fit.slope}
            afmp = fits.get(_afmp_key(one)) if one.model == "deit_tiny" else None
            if afmp is not None:
                estimates["crossing"] = crossing(afmp, fit)
            for name, estimate in estimates.items():
                row |= {name: estimate.value, f"{name}_ci95_low": estimate.low, f"{name}_ci95_high": estimate.high}
            rows.append(row)
    columns = ["semantics", "model", "quantity", "mode", *SETTINGS, "sizes", "largest_num_patches"]
    columns += ["quadratic_share", "largest_miss"]
    names = ("c0", "c1", "c2", "local_slope", "crossing")
    columns += [f"{name}{end}" for name in names for end in ("", "_ci95_low", "_ci95_high")]
    return pandas.DataFrame(rows, columns=columns)


def _afmp_key(deit: Series) -> tuple:
    # The key of AFMP-Small in the configuration of a series of DeiT-Tiny.
    return deit._replace(model="afmp_small", attention=None)[:-1]


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
        sentences += [largest_ratio(sweep), *sweep["protocol"]["skipped"]]
    return wording.escape_rst(" ".join(sentences))


def ratios_caption(sweeps: list[dict]) -> str:
    """Return in how many settings AFMP-Small needs less time and less memory, in reStructuredText."""
    sentences = ["Above 1, AFMP-Small needs less time or memory."]
    for sweep in sweeps:
        for mode in modes_of(sweep):
            pairs = [ratio for ratio in ratios(sweep["points"]) if ratio.setting["mode"] == mode]
            count = wording.counted([len(pairs)], "pair")
            sentence = f"{sweep['semantics'].capitalize()} semantics, {mode}: {count} of points"
            if pairs:
                sentence += (
                    f"; AFMP-Small needs less time in {sum(ratio.time > 1 for ratio in pairs)} and less peak memory "
                    f"in {sum(ratio.peak_memory > 1 for ratio in pairs)}"
                )
            sentences.append(f"{sentence}.")
    return wording.escape_rst(" ".join(sentences))


def fits_caption(table: pandas.DataFrame) -> str:
    """Return the number of fits and their slopes at large N, in reStructuredText."""
    sentences = [
        f"{wording.counted([len(table)], 'fit')} of time and activations per image over the number of patches N."
    ]
    for (semantics, model), rows in table[table["quantity"] == "time_ms"].groupby(["semantics", "model"], sort=False):
        slopes = rows["local_slope"]
        sentences.append(
            f"{model} under {semantics} semantics: local slope of time over N between the two largest sizes "
            f"{slopes.min():.2f} to {slopes.max():.2f} (1 is linear, 2 quadratic)."
        )
    return wording.escape_rst(" ".join(sentences))
