"""Tables of results: what the sweep and the parameter counts hold, flat, and how any table is written."""

import math
from pathlib import Path

import pandas

from afmp.records import atomic_path, write_text

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
