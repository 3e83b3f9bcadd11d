"""The table that `afmp benchmark sweep` prints."""

from afmp.analysis.ratios import ratios
from afmp.analysis.sweep_wording import work_of_executions


def format_sweep(scalability: dict) -> str:
    """Return the content of a scalability file as text: one row per point, then the ratios DeiT-Tiny / AFMP."""
    points, protocol, device = scalability["points"], scalability["protocol"], scalability["device"]
    kind = next((point["memory"]["kind"] for point in points if point["memory"]), "none")
    implementations = sorted({point["implementation"] for point in points if point["implementation"]})
    title = (
        f"AFMP-Small under {scalability['semantics']} semantics, on {device['name']} ({device['type']}), torch "
        f"{scalability['versions']['torch']}; per point at most {protocol['warmup']} warm-up passes, "
        f"{protocol['repeats']} timed passes and {protocol['seconds']:g} s; message passing: "
        f"{', '.join(implementations) or 'not stated'}; peak memory: {kind}, never under a CUDA graph made by hand"
    )
    head = f"{'median ms':>11}{'[q25, q75]':>24}{'n':>5}{'peak MB':>9}{'reserved':>10}{'activations':>12}"
    lines = [title, work_of_executions(scalability), _place_head("model") + head]
    for point in points:
        place = _place(point, point["model"])
        if point["status"] == "ok":
            time, memory = point["time_ms"], point["memory"]
            quartiles = f"[{time['q25']:.3f}, {time['q75']:.3f}]"
            reserved = "-" if memory["reserved_mb"] is None else f"{memory['reserved_mb']:.0f}"
            lines.append(
                f"{place}{time['median']:>11.3f}  {quartiles:>22}{time['n']:>5}{memory['peak_mb']:>9.0f}{reserved:>10}"
                f"{memory['activations_mb']:>12.0f}{'' if point['interleaved'] else '  (timed alone)'}"
            )
        else:
            outcome = "out of memory" if point["status"] == "oom" else "failed"
            lines.append(f"{place}  {outcome} ({point['error']})")
    if found := ratios(points):
        lines += ["", f"{_place_head('DeiT / AFMP')}{'time':>11}{'peak memory':>20}{'activations':>14}"]
        lines += [
            _place(r.setting | {"attention": r.attention}, r.model)
            + f"{r.time:>11.2f}{r.peak_memory:>20.2f}{r.activations:>14.2f}"
            for r in found
        ]
    return "\n".join([*lines, *protocol["skipped"]])


def _place_head(first: str) -> str:
    names = {"px": 6, "N": 7, "batch": 6}
    words = {"prec": 6, "mode": 10, "execution": 16, "attn": 5}
    numbers = "".join(f"{name:>{width}}" for name, width in names.items())
    return f"{first:<20}{numbers}  " + "".join(f"{name:<{width}}" for name, width in words.items())


def _place(point: dict, first: str) -> str:
    return (
        f"{first:<20}{point['resolution']:>6}{point['num_patches']:>7}{point['batch_size']:>6}  {point['precision']:<6}"
        f"{point['mode']:<10}{point['execution']:<16}{point['attention'] or '':<5}"
    )
