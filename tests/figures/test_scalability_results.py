"""Figure scalability_results: lines, quartiles, failed points, faint lines, and its caption."""

from itertools import product

import numpy as np
import yaml
from conftest import PROJECT
from drawn_figures import (
    AFMP_LINE,
    DEIT_LINE,
    MODELS,
    PEAK,
    SIX_SIZES,
    TIME,
    all_text,
    curve,
    panel,
    small_sweep,
    wide_sweep,
)
from synthetic_results import CPU, synthetic_point, synthetic_scalability

from afmp.analysis.sweep_tables import scalability_caption
from afmp.benchmark.text import format_sweep
from afmp.figures import scalability_fits, scalability_results
from afmp.figures.parts import style
from afmp.finished.archive import MAX_FILE_BYTES


def test_lines_are_medians_with_quartiles_and_memory():
    content = small_sweep()
    figure = scalability_results.draw(content)
    time, memory = panel(figure, TIME), panel(figure, PEAK)
    points = [p for p in content["points"] if p["model"] == "deit_tiny"]
    for axis, values in (
        (time, [p["time_ms"]["median"] / 64 for p in points]),
        (memory, [p["memory"]["peak_mb"] / 64 for p in points]),
    ):
        line = curve(axis, DEIT_LINE)
        assert line.get_xdata().tolist() == [16, 36, 64, 100, 144, 196]
        np.testing.assert_allclose(line.get_ydata(), values)
    bars = [segment[:, 1] for collection in time.collections for segment in collection.get_segments()]
    quartiles = [points[-1]["time_ms"][key] / 64 for key in ("q25", "q75")]
    assert any(np.allclose(bar, quartiles) for bar in bars)
    text = all_text(figure)
    assert AFMP_LINE in text and "196\n224 px" in text
    for fact in (
        "batch 64",
        "precision fp32",
        "DeiT-Tiny fused",
        "execution eager",
        "NVIDIA H100",
        "torch 2.14.1",
    ):
        assert fact in text
    assert "Peak memory allocated on the GPU, MB per image" in text and "forward + backward), ms per image" in text


def test_failed_points_are_marked_at_their_size():
    figure = scalability_results.draw(small_sweep(deit_tiny={192: "oom", 224: "error"}, afmp_small={224: "oom"}))
    for title in (TIME, PEAK):
        axis = panel(figure, title)
        assert curve(axis, DEIT_LINE).get_xdata().tolist() == [16, 36, 64, 100]
        marks = {(text.get_gid(), text.xy[0]) for text in axis.texts if text.get_gid()}
        assert marks == {
            ("oom: DeiT-Tiny", 144),
            ("error: DeiT-Tiny", 196),
            ("oom: AFMP-Small (paper semantics)", 196),
        }
        words = sorted(text.get_text() for text in axis.texts if not text.get_gid())
        assert words == ["error", "out of memory", "out of memory"]
        highest = max(line.get_ydata().max() for line in axis.lines if len(line.get_ydata()))
        assert highest / axis.get_ylim()[1] < 0.7  # the marks' strip holds no measured point


def test_sweeps_of_no_measured_point_and_of_one_point():
    nothing = small_sweep(**{model: dict.fromkeys(SIX_SIZES, "oom") for model in MODELS})
    figure = scalability_results.draw(nothing)
    axis = panel(figure, PEAK)
    assert sum(str(text.get_gid()).startswith("oom") for text in axis.texts) == 12
    assert "no point could be measured" in all_text(figure)
    one = synthetic_scalability([synthetic_point("afmp_small", 64, kind="resident_set_growth")], device=CPU)
    figure = scalability_results.draw(one)
    assert "Resident-set growth, CPU, MB per image" in all_text(figure)
    low, high = panel(figure, TIME).get_xlim()
    assert low < 16 < high and "resident set" in scalability_results.caption(one)
    for content in (nothing, one):
        assert "no fit" in all_text(scalability_fits.draw(content))
        assert "there is no fit" in scalability_fits.caption(content)


def test_axes_are_logarithmic_for_a_wide_sweep():
    figure = scalability_results.draw(wide_sweep())
    axis = panel(figure, TIME)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels[0] == "16\n64 px\nB 64" and labels[-1] == "50,176\n3,584 px\nB 1"


def test_caption_has_ratios_and_failures():
    content = small_sweep(deit_tiny={192: "oom", 224: "error"})
    text = scalability_results.caption(content)
    ours, theirs = (next(p for p in content["points"] if (p["model"], p["resolution"]) == (m, 160)) for m in MODELS)
    ratio = theirs["time_ms"]["median"] / ours["time_ms"]["median"]
    assert "is 100 patches (160 px)" in text and f"{ratio:.2f} in time" in text
    assert "DeiT-Tiny, fused attention, at 192 px, forward + backward (out of memory), in fp32 eager" in text
    error = "(error: RuntimeError: cuDNN not found)"
    assert f"DeiT-Tiny, fused attention, at 224 px, forward + backward {error}, in fp32 eager" in text


def test_best_configurations_are_main_lines_and_others_are_faint():
    content = small_sweep(deit_tiny={224: "oom"})
    # bf16 is faster, and DeiT-Tiny has one more measured size in it.
    content["points"] += [{**p, "precision": "bf16"} for p in small_sweep()["points"] if p["model"] == "deit_tiny"]
    axis = panel(scalability_results.draw(content), TIME)
    assert curve(axis, "DeiT-Tiny: bf16, fused attention, eager").get_alpha() is None
    faint = [line for line in axis.lines if str(line.get_gid()).startswith("faint")]
    assert [line.get_gid() for line in faint] == ["faint: fp32, fused attention, eager"]
    assert faint[0].get_alpha() < 0.5 and len(faint[0].get_xdata()) == 5


def test_equal_faint_lines_are_drawn_once():
    content = small_sweep()
    points = [p for p in content["points"] if p["model"] == "deit_tiny"]
    content["points"] += [{**p, "precision": "bf16", "execution": e} for p in points for e in ("eager", "graph")]
    figure = scalability_results.draw(content)
    faint = [line for line in panel(figure, PEAK).lines if str(line.get_gid()).startswith("faint")]
    assert len(faint) == 1
    assert "faint lines: other configurations of DeiT-Tiny, in the same colours" in _spaced(figure)
    refined = [synthetic_point("afmp_refined_small", size) for size in SIX_SIZES]
    content["points"] += [{**point, "precision": precision} for point in refined for precision in ("fp32", "bf16")]
    points = [{**p, "precision": "bf16"} for p in content["points"] if p["model"] == "afmp_small"]
    content["points"] += points
    figure = scalability_results.draw(content, [{**content, "semantics": "notebook"}])
    models = "AFMP-Small (paper semantics), DeiT-Tiny and AFMP-refined-Small"
    assert f"faint lines: other configurations of {models}, in the same colours" in _spaced(figure)
    assert "other configurations" not in all_text(scalability_results.draw(small_sweep()))


def test_quartile_bars_of_one_size_are_side_by_side():
    paper = small_sweep()
    figure = scalability_results.draw(paper, [{**paper, "semantics": "notebook"}])
    axis = panel(figure, TIME)
    places = [
        collection.get_transform().transform(collection.get_segments()[0])[0, 0]
        for collection in axis.collections
        if len(collection.get_segments())
    ]
    assert len(places) == 3 and (np.diff(places) > 2).all()
    assert not panel(figure, PEAK).collections  # a memory is read once


def test_footer_describes_only_what_is_drawn():
    plain = small_sweep()
    plain["points"][0]["time_ms"]["n"] = 5
    text = all_text(scalability_results.draw(plain))
    assert "median of 5 to 10 passes" in text and "CUDA graph" not in text and "aint" not in text
    graphs = small_sweep()
    graphs["points"] += [synthetic_point(model, size, execution="graph") for size in SIX_SIZES for model in MODELS]
    text = all_text(scalability_results.draw(graphs))
    assert (
        "median of 10 passes" in text and "never read under a CUDA graph" in text and "Faint lines: all others" in text
    )


def test_the_figure_and_its_caption_say_which_lines_need_no_change_of_your_code():
    sweep = small_sweep()
    executions = ("reduce_overhead", "graph", "compiled_graph")
    sweep["points"] += [
        synthetic_point(model, size, execution=execution)
        for execution in executions
        for size in SIX_SIZES
        for model in MODELS
    ]
    said = (
        "Executions that need no change of your code, or one call of torch.compile: eager; reduce_overhead. "
        "Executions that need a CUDA graph made by hand: graph; compiled_graph."
    )
    figure = scalability_results.draw(sweep)
    assert said in _spaced(figure) and "dotted: CUDA graphs made by hand" in _spaced(figure)
    assert said in scalability_results.caption(sweep).replace("\\", "")
    assert said in scalability_caption([sweep]).replace("\\", "") and said in format_sweep(sweep)
    axis = panel(figure, TIME)
    curve(axis, "DeiT-Tiny: fp32, fused attention, compiled_graph (by hand)")
    looks = {(line.get_gid(), line.get_linestyle()) for line in axis.lines if str(line.get_gid()).startswith("faint")}
    assert looks == {
        (f"faint: fp32, {attention}{execution}", look)
        for attention in ("", "fused attention, ")
        for execution, look in (("eager", "-"), ("reduce_overhead", "-"), ("graph", ":"))
    }
    without = _spaced(scalability_results.draw(small_sweep()))
    assert "Executions that need no change of your code, or one call of torch.compile: eager." in without
    assert "by hand" not in without


def _spaced(figure) -> str:
    """Return all text of a figure, with spaces for its line breaks."""
    return " ".join(all_text(figure).split())


def _models(asked: dict) -> list[tuple[str, str]]:
    attention = {"deit_tiny": asked["attention"]}
    return [(model, one) for model in asked["models"] for one in attention.get(model, ["fused"])]


def test_the_figure_of_the_full_sweep_is_small_enough_for_an_archive(tmp_path):
    asked = yaml.safe_load((PROJECT / "config.yaml").read_text())["scalability"]
    settings = product(asked["resolutions"], asked["precision"], asked["mode"], asked["execution"], _models(asked))
    points = [
        synthetic_point(
            model,
            resolution,
            precision=precision,
            mode=mode,
            execution=execution,
            attention=attention,
        )
        for resolution, precision, mode, execution, (model, attention) in settings
    ]
    sweeps = [synthetic_scalability(points, semantics=semantics) for semantics in ("paper", "notebook")]
    style.save_figure(scalability_results.draw(sweeps[0], sweeps[1:]), png=tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size < 0.85 * MAX_FILE_BYTES
