"""Tables of results: what the sweep and the parameter counts hold, flat; how any table is written, and its caption."""

import math
from pathlib import Path

import pandas

from afmp.figures import wording
from afmp.records import atomic_path, write_text
from afmp.statistics import Interval, PairedDifference, distinct

TABLE_STYLE = """<!DOCTYPE html>
<meta charset="utf-8">
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; }
table { border-collapse: collapse; }
th, td { padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { position: sticky; top: 0; background: #f4f4f4; border-bottom: 2px solid #888; }
td:first-child, td:nth-child(2), td:nth-child(3) { text-align: left; }
</style>
"""


def write_csv(table: pandas.DataFrame, path: Path | str) -> None:
    """Write a table atomically: six significant digits, empty where missing, lines ended by a line feed."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", na_rep="", lineterminator="\n", encoding="utf-8")


def write_html(table: pandas.DataFrame, path: Path | str) -> None:
    """Write the same table as a page for the report, four significant digits."""
    body = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
    write_text(path, TABLE_STYLE + body + "\n")


def scalability_table(scalability: dict):
    """A scalability file's content as a pandas DataFrame: a row for each point, flat columns."""
    rows = []
    for point in scalability["points"]:
        time, memory = point["time_ms"] or {}, point["memory"] or {}
        plain = {key: value for key, value in point.items() if key not in ("time_ms", "memory")}
        rows.append(
            {"semantics": scalability["semantics"]}
            | plain
            | {f"time_{key}_ms": time.get(key) for key in ("median", "q25", "q75", "min", "max")}
            | {
                "peak_memory_mb": memory.get("peak_mb"),
                "reserved_memory_mb": memory.get("reserved_mb"),
                "weights_mb": memory.get("weights_mb"),
                "memory_kind": memory.get("kind"),
            }
            | scalability["protocol"]
            | {f"device_{key}": value for key, value in scalability["device"].items()}
            | {
                key if key.startswith("git") else f"{key}_version": value
                for key, value in scalability["versions"].items()
            }
        )
    numbers = ["num_parameters", "reserved_memory_mb", "peak_memory_mb", "weights_mb"]
    table = pandas.DataFrame(rows)
    times = [column for column in table if column.startswith("time_")]
    table = table.astype({column: "Float64" for column in numbers + times})
    return table.astype({"num_parameters": "Int64"})


def format_table(scalability: dict) -> str:
    """A scalability file's content as text: a row for each point, then ratios DeiT-Tiny / AFMP-Small."""
    points = scalability["points"]
    first, protocol, device = points[0], scalability["protocol"], scalability["device"]
    attention = next((point["attention"] for point in points if point["attention"]), "none")
    kind = next((point["memory"]["kind"] for point in points if point["memory"]), "none")
    title = (
        f"AFMP semantics {scalability['semantics']} on {device['name']} ({device['type']}); "
        f"{protocol['mode']}, batch {first['batch_size']}, {first['precision']}, attention {attention}, "
        f"compile {first['compile']}; {protocol['warmup']} warm-up + {protocol['repeats']} timed passes; "
        f"memory: {kind}"
    )
    columns = {"median ms": 12, "q25": 10, "q75": 10, "peak MB": 10, "reserved": 10, "weights": 9}
    head = f"{'model':<12}{'pixels':>7}{'patches':>9}"
    lines = [title, head + "".join(f"{name:>{width}}" for name, width in columns.items())]
    for point in points:
        place = f"{point['model']:<12}{point['resolution']:>7}{point['num_patches']:>9}"
        if point["status"] == "ok":
            time, memory = point["time_ms"], point["memory"]
            reserved = "-" if memory["reserved_mb"] is None else f"{memory['reserved_mb']:.0f}"
            numbers = [f"{time[key]:.2f}" for key in ("median", "q25", "q75")]
            numbers += [f"{memory['peak_mb']:.0f}", reserved, f"{memory['weights_mb']:.1f}"]
            widths = columns.values()
            lines.append(place + "".join(f"{n:>{width}}" for n, width in zip(numbers, widths, strict=True)))
        else:
            what = "out of memory" if point["status"] == "oom" else "failed"
            lines.append(f"{place}  {what} ({point['error']})")
    ratios = _ratios(points)
    if ratios:
        lines += ["", f"{'DeiT / AFMP':<12}{'pixels':>7}{'patches':>9}{'time':>12}{'peak memory':>20}"]
        lines += [
            f"{'':<12}{pixels:>7}{patches:>9}{time:>12.2f}{memory:>20.2f}" for pixels, patches, time, memory in ratios
        ]
    return "\n".join(lines)


def parameters_table(parameters: dict):
    """A parameters file's content as a pandas DataFrame: a row for each model."""
    columns = ["model", "description", "resolution", "num_classes", "num_parameters"]
    return pandas.DataFrame(parameters["models"]).assign(num_classes=parameters["num_classes"])[columns]


def epochs_caption(table: pandas.DataFrame) -> str:
    """How much an epochs table holds, in reStructuredText."""
    lengths = table.groupby(["semantics", "run", "seed"]).size()
    return wording.restructured(
        f"{wording.counted([len(table)], 'row')}: {wording.counted([table['run'].nunique()], 'run')} under "
        f"{' and '.join(table['semantics'].unique())} semantics, {wording.counted([table['seed'].nunique()], 'seed')}, "
        f"{wording.counted(lengths, 'epoch')} each; val_acc between {table['val_acc'].min():.2f} and "
        f"{table['val_acc'].max():.2f} %."
    )


def summary_caption(table: pandas.DataFrame) -> str:
    """What a summary table was computed from and each semantics' highest mean, in reStructuredText."""

    def named(column: str) -> str:
        return distinct(name for cell in table[column] for name in cell.split("; "))

    sentences = [
        f"{wording.counted([table['run'].nunique()], 'run')} with {wording.counted(table['n'], 'seed')} each, "
        f"dataset {named('dataset')}, on {named('device')}."
    ]
    for semantics, rows in table.groupby("semantics", sort=False):
        best = rows.loc[rows["test_accuracy_mean"].idxmax()]
        numbers = (best[f"test_accuracy_{part}"] for part in ("mean", "std", "ci95_low", "ci95_high"))
        accuracy = wording.with_interval(Interval(*numbers, best["n"]))
        sentences.append(
            f"Highest mean test accuracy under {semantics} semantics: {accuracy}, run {best['run']}. "
            f"{wording.SELECTION[semantics]}"
        )
    return wording.restructured(" ".join(sentences))


def differences_caption(table: pandas.DataFrame) -> str:
    """How many test accuracies differ from their reference's and which most, in reStructuredText."""
    sentences = []
    for semantics, rows in table[table["metric"] == "test_accuracy"].groupby("semantics", sort=False):
        columns = ["mean_difference", "std", "ci95_low", "ci95_high", "n_pairs", "p_value"]
        found = [(row, PairedDifference(*(row[column] for column in columns))) for _, row in rows.iterrows()]
        sentences.append(
            f"Test accuracy under {semantics} semantics: of {wording.counted([len(found)], 'difference')}, "
            f"{sum(bool(paired.excludes_zero) for _, paired in found)} with an interval that excludes 0"
        )
        without = sum(paired.excludes_zero is None for _, paired in found)
        sentences[-1] += f" and {without} without an interval." if without else "."
        found = [(row, paired) for row, paired in found if paired.n]
        if found:
            row, paired = max(found, key=lambda pair: abs(pair[1].mean))
            sentences.append(
                f"The largest: {row['run']} minus {row['reference']} ({row['study']}), {wording.difference(paired)}."
            )
    return wording.restructured(" ".join(sentences) or "No study has a run beside its reference.")


def parameters_caption(parameters: dict) -> str:
    """The counts and the ratio of the two models of the sweep, in reStructuredText."""
    counts = {model["model"]: model["num_parameters"] for model in parameters["models"]}
    listed = "; ".join(f"{model['description']}: {model['num_parameters']:,}" for model in parameters["models"])
    ratio = counts["afmp_small"] / counts["deit_tiny"]
    return wording.restructured(
        f"Parameters with {parameters['num_classes']} classes. {listed}. AFMP-Small / DeiT-Tiny = {ratio:.3f}."
    )


def scalability_caption(sweeps: list[dict]) -> str:
    """How many points were measured and, at the largest size of both models, their ratio; in reStructuredText."""
    sentences = []
    for sweep in sweeps:
        status = [point["status"] for point in sweep["points"]]
        sentences.append(
            f"{sweep['semantics'].capitalize()} semantics on {sweep['device']['name']}: "
            f"{wording.counted([len(status)], 'point')}, "
            f"{status.count('oom')} out of memory, {status.count('error')} failed."
        )
        if ratios := _ratios(sweep["points"]):
            pixels, patches, time, memory = max(ratios)
            saved = "undefined" if math.isnan(memory) else f"{memory:.2f}"
            sentences.append(
                f"At {patches:,} patches ({pixels:,} px), the largest measured for both, "
                f"DeiT-Tiny / AFMP-Small = {time:.2f} in time and {saved} in peak memory."
            )
        else:
            sentences.append("No size was measured for both models.")
    return wording.restructured(" ".join(sentences))


def _ratios(points: list[dict]) -> list[tuple[int, int, float, float]]:
    """(resolution, num_patches, time, peak memory) of DeiT-Tiny over AFMP-Small where both were measured."""
    measured = {(p["model"], p["resolution"]): p for p in points if p["status"] == "ok"}
    ratios = []
    for (model, resolution), deit in measured.items():
        afmp = measured.get(("afmp_small", resolution))
        if model == "deit_tiny" and afmp:
            ratios.append(
                (
                    resolution,
                    deit["num_patches"],
                    deit["time_ms"]["median"] / afmp["time_ms"]["median"],
                    # A resident set need not grow at all for a small model.
                    deit["memory"]["peak_mb"] / (afmp["memory"]["peak_mb"] or math.nan),
                )
            )
    return ratios
