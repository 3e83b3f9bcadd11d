"""Figures show the numbers of their results, say what they are, and survive the small, failed and empty."""

import importlib
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from synthetic_results import (
    CPU,
    STUDIES,
    synthetic_diagnostics,
    synthetic_point,
    synthetic_result,
    synthetic_results,
    synthetic_scalability,
)

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed, epoch_time
from afmp.analysis.statistics import mean_and_interval, paired_difference
from afmp.analysis.study_tables import differences_caption, differences_table
from afmp.errors import AfmpError
from afmp.figures import diagnostics, notebook_vs_paper, scalability_fits, scalability_results
from afmp.figures.parts import study_panels, style
from afmp.finished.archive import MAX_FILE_BYTES

SIX = range(64, 225, 32)
MODELS = ("afmp_small", "deit_tiny")


def study_figure(study):
    return importlib.import_module(f"afmp.figures.{study['figure']}")


def all_text(figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def panel(figure, title: str):
    return next(axis for axis in figure.axes if axis.get_title() == title)


def curve(axis, label: str):
    return next(line for line in axis.lines if line.get_label() == label)


def by_gid(axis, gid: str):
    return next(artist for artist in axis.findobj() if artist.get_gid() == gid)


def unescaped(text: str) -> str:
    """A caption without the escapes of reStructuredText."""
    return text.replace("\\", "")


def history(results, run: str, key: str) -> np.ndarray:
    return np.array([r["training_history"][key] for r in results if r["run"] == run])


def test_curves_are_means_and_bands_are_t_intervals():
    results = synthetic_results(epochs=12)
    figure = study_figure(STUDIES[0]).draw(STUDIES[0], results)
    panels = {
        "Validation accuracy": "val_acc",
        "Training loss": "train_loss",
        "Sparsity loss": "sparsity_loss",
    }
    for title, key in panels.items():
        axis = panel(figure, title)
        for member in STUDIES[0]["members"]:
            interval = mean_and_interval(history(results, member["run"], key))
            drawn = curve(axis, member["label"])
            np.testing.assert_allclose(drawn.get_xdata(), np.arange(1, 13))
            np.testing.assert_allclose(drawn.get_ydata(), interval.mean)
            (path,) = by_gid(axis, f"band: {member['label']}").get_paths()
            corners = {(round(x, 9), round(y, 9)) for x, y in path.vertices}
            for epoch, low, high in zip(range(1, 13), interval.low, interval.high, strict=True):
                assert {(epoch, round(low, 9)), (epoch, round(high, 9))} <= corners


def test_bars_are_mean_epoch_times_without_the_first_epoch():
    results = synthetic_results(seeds=range(3))
    axis = panel(study_figure(STUDIES[2]).draw(STUDIES[2], results), "Time per training epoch")
    for member in STUDIES[2]["members"]:
        times = [epoch_time(r) for r in results if r["run"] == member["run"]]
        assert by_gid(axis, f"time: {member['label']}").get_width() == pytest.approx(np.mean(times))
        assert np.mean(times) < 2 < history(results, member["run"], "time")[:, 0].mean()
    assert "without the first, s" in axis.get_xlabel()


def test_times_that_seeds_and_runs_shared_have_no_interval_and_say_so():
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["trained_together"] = [0, 1, 2]
        result["trained_beside"] = ["dense", "sparse_0.2"]
    figure = study_figure(STUDIES[2]).draw(STUDIES[2], results)
    times = [text.get_text() for text in panel(figure, "Time per training epoch").texts]
    assert len(times) == 2 and not any("±" in text for text in times)
    text = all_text(figure)
    assert "band and error bar" not in text and "as one stack" in text
    assert "Up to 2 other runs trained on the device at the same time" in text
    alone = all_text(study_figure(STUDIES[2]).draw(STUDIES[2], synthetic_results(seeds=range(3))))
    assert "band and error bar" in alone and "stack" not in alone and "at the same time" not in alone


def test_runs_that_are_one_model_under_several_names_are_named():
    results = [r for r in synthetic_results(seeds=range(3)) if r["run"] != "sparse_0.4"]
    twins = [r | {"run": "sparse_0.4"} for r in results if r["run"] == "sparse_0.2"]
    for twin in twins:
        twin["training_history"] = twin["training_history"] | {"time": [1.0, 2.0, 3.0]}
    drawn = study_figure(STUDIES[0])
    assert "coincide" not in all_text(drawn.draw(STUDIES[0], synthetic_results(seeds=range(3))))
    assert "equal in every seed and epoch: Sparse 0.2, Sparse 0.4." in all_text(drawn.draw(STUDIES[0], results + twins))
    assert "every seed and epoch: Sparse 0.2, Sparse 0.4." in drawn.caption(STUDIES[0], results + twins)
    twins[0]["test_accuracy"] += 0.01
    assert "every seed and epoch" not in drawn.caption(STUDIES[0], results + twins)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study["figure"])
@pytest.mark.parametrize("semantics", ["paper", "notebook"])
def test_a_study_names_semantics_runs_units_and_numbers(study, semantics):
    results = synthetic_results(semantics=semantics)
    figure = study_figure(study).draw(study, results)
    text = all_text(figure)
    assert f"{semantics} semantics" in figure.get_suptitle()
    assert study["section"] in figure.get_suptitle()
    axis = "Accuracy on the test set\n(used for selection), %"
    assert (axis in text) == (semantics == "notebook")
    assert ("(held out of the training set), %" in text) == (semantics == "paper")
    assert "n = 5 seeds" in text and "Dataset digits" in text and "CPU, 2 cores" in text
    for member in study["members"]:
        best = mean_and_interval([r["best_val_accuracy"] for r in results if r["run"] == member["run"]])
        assert f"{member['label']}: {best.mean:.2f} ± {best.half:.2f} %" in text


def test_one_seed_is_drawn_without_an_interval_and_says_so():
    results = synthetic_results(seeds=[0])
    figure = study_figure(STUDIES[0]).draw(STUDIES[0], results)
    assert "n = 1, no interval" in all_text(figure)
    assert "±" not in all_text(figure)
    assert not [a for axis in figure.axes for a in axis.findobj() if str(a.get_gid()).startswith("band")]
    assert "n = 1, no interval" in study_figure(STUDIES[0]).caption(STUDIES[0], results)


def test_runs_with_unequal_numbers_of_seeds_each_say_their_own():
    results = [r for r in synthetic_results(seeds=range(3)) if r["run"] != "dense" or r["seed"] == 0]
    text = all_text(study_figure(STUDIES[0]).draw(STUDIES[0], results)).replace("\u00a0", " ")
    dense = next(line for line in text.split("\n") if line.startswith("Dense: "))
    assert dense.endswith(", n = 1, no interval")
    assert text.count(", n = 3") == 5


@pytest.mark.parametrize("epochs", [1, 2, 3, 8, 30, 100, 250])
def test_epoch_axis_has_whole_epochs_from_one(epochs):
    study = STUDIES[2]
    figure = study_figure(study).draw(study, synthetic_results(seeds=[0], epochs=epochs))
    axis = panel(figure, "Validation accuracy")
    ticks = axis.get_xticks()
    assert ticks[0] == 1 and (ticks == ticks.astype(int)).all() and ticks[-1] <= epochs
    assert 1 <= len(ticks) <= 12
    low, high = axis.get_xlim()
    assert low < 1 and high > epochs
    line = curve(axis, "With top-down")
    assert line.get_marker() not in ("", "None") and line.get_markevery()[1] == max(1, round(epochs / 8))


def test_three_lambdas_are_apart_on_a_log_axis():
    axis = panel(study_figure(STUDIES[1]).draw(STUDIES[1], synthetic_results()), "Sparsity loss")
    assert axis.get_yscale() == "log"
    low, high = np.log10(axis.get_ylim())
    heights = [(np.log10(curve(axis, m["label"]).get_ydata()[-1]) - low) / (high - low) for m in STUDIES[1]["members"]]
    assert (np.abs(np.diff(heights)) > 0.2).all() and min(heights) > 0 and max(heights) < 1


@pytest.mark.filterwarnings("error")
def test_runs_without_a_regulariser_are_noted():
    axis = panel(study_figure(STUDIES[0]).draw(STUDIES[0], synthetic_results()), "Sparsity loss")
    assert "0 at every epoch (the line at 0): Dense" in [text.get_text() for text in axis.texts]
    assert axis.get_ylim()[0] < 0
    study = {**STUDIES[1], "members": [*STUDIES[1]["members"], {"run": "dense", "label": "Dense"}]}
    axis = panel(study_figure(study).draw(study, synthetic_results()), "Sparsity loss")
    assert "0 at every epoch (not shown on the log axis): Dense" in [text.get_text() for text in axis.texts]
    study = {**STUDIES[1], "reference": "dense", "members": [{"run": "dense", "label": "Dense"}]}
    assert panel(study_figure(study).draw(study, synthetic_results()), "Sparsity loss").get_yscale() == "linear"


def test_wide_intervals_do_not_press_the_curves_flat():
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["training_history"]["val_acc"] = [10.0 + 9 * (result["seed"] == 2), 20.0, 30.0]
    figure = study_panels.draw(STUDIES[2], results)
    low, high = panel(figure, "Validation accuracy").get_ylim()
    assert 0 <= low < 10 and 30 < high < 45
    # The first epochs' band is 13 ± 12.9, wider than the panel: the figure says so.
    assert "Intervals are cut" in all_text(figure)


def test_two_seeds_are_drawn_each_as_a_thin_line_and_have_their_interval_in_words():
    results = synthetic_results(seeds=range(2))
    for result in results:
        result["training_history"]["val_acc"] = [10.0 + 3 * result["seed"], 20.0, 30.0]
    figure = study_panels.draw(STUDIES[2], results)
    axis = panel(figure, "Validation accuracy")
    low, high = axis.get_ylim()
    assert 0 <= low < 10 and 30 < high < 45
    seeds = [line.get_ydata().tolist() for line in axis.lines if line.get_gid() == "seed: With top-down"]
    assert seeds == [[10, 20, 30], [13, 20, 30]]
    assert not [a for axis in figure.axes for a in axis.findobj() if str(a.get_gid()).startswith("band")]
    dots = by_gid(panel(figure, "Time per training epoch"), "times: With top-down")
    assert list(dots.get_xdata()) == [epoch_time(result) for result in results if result["run"] == "top_down"]
    text = all_text(figure).replace("\u00a0", " ")
    assert "Thin lines: each seed where n = 2" in text and "Student" not in text and "Intervals are cut" not in text
    best = mean_and_interval([r["best_val_accuracy"] for r in results if r["run"] == "top_down"])
    assert f"± {best.half:.2f} %" in text
    both = notebook_vs_paper.draw(
        STUDIES, paper=results, notebook=synthetic_results(semantics="notebook", seeds=range(3))
    )
    axis = panel(both, "7.3 Top-down refinement")
    accuracies = [result["test_accuracy"] for result in results if result["run"] == "top_down"]
    assert list(by_gid(axis, "seeds: paper").get_xdata()) == accuracies
    assert "Vertical ticks and thin lines: each seed where n = 2" in all_text(both)


def test_axes_hold_no_accuracy_beyond_0_and_100_and_no_loss_below_0():
    results = synthetic_results(seeds=range(3))
    for result in results:
        last = [0.0, 60.0, 99.0][result["seed"]]
        result["test_accuracy"] = last
        result["training_history"] |= {"val_acc": [1.0, 50.0, last], "train_loss": [2.0, 1.0, 0.1 * result["seed"]]}
    figure = study_panels.draw(STUDIES[2], results)
    assert panel(figure, "Validation accuracy").get_ylim() == (0, 100)
    assert panel(figure, "Training loss").get_ylim()[0] == 0
    notebook = [result | {"semantics": "notebook"} for result in results]
    figure = notebook_vs_paper.draw(STUDIES, paper=results, notebook=notebook)
    assert panel(figure, "7.3 Top-down refinement").get_xlim() == (0, 100)
    assert panel(figure, "Reference runs during training").get_ylim() == (0, 100)


def test_a_tie_has_no_winner():
    results = [r for r in synthetic_results(seeds=range(3)) if not r["run"].startswith("sparse")]
    sparse = [synthetic_result("sparse_0.2", seed=seed) | {"test_accuracy": 40.0 + seed} for seed in range(3)]
    results += [r | {"run": f"sparse_0.{i}"} for r in sparse for i in range(2, 7)]
    text = study_panels.caption(STUDIES[0], results)
    assert "Highest mean test accuracy: Sparse 0.2 to Sparse 0.6, all equal, 41.00 ± 2.48 % (n = 3)." in text
    assert "Best of the other runs, minus the reference Dense: Sparse 0.2 to Sparse 0.6, all equal, +" in text
    # Dense has the same mean, of other seeds' accuracies: as high, but not equal.
    for result in results:
        if result["run"] == "dense":
            result["test_accuracy"] = 41.0 + 2 * (result["seed"] - 1)
    text = study_panels.caption(STUDIES[0], results)
    assert "accuracy: Dense, 41.00 ± 4.97 % (n = 3); Sparse 0.2 to Sparse 0.6, all equal, 41.00 ± 2.48 % (n" in text


def test_accuracies_alike_in_every_seed_are_not_written_as_a_certain_mean():
    results = synthetic_results(seeds=range(3))
    for result in results:
        if result["run"] == "top_down":
            result["test_accuracy"] = 40.0
    note = "one image of 357 is 0.28 points"
    drawn = all_text(study_panels.draw(STUDIES[2], results)).replace("\u00a0", " ")
    for text in (drawn, study_panels.caption(STUDIES[2], results)):
        assert "40.00 %, equal for all seeds" in text and note in text and "± 0.00" not in text
    notebook = synthetic_results(semantics="notebook", seeds=range(3))
    assert note in all_text(notebook_vs_paper.draw(STUDIES, paper=results, notebook=notebook))
    other = synthetic_results(seeds=range(3))
    assert note not in all_text(study_panels.draw(STUDIES[2], other)) + study_panels.caption(STUDIES[2], other)
    assert note not in all_text(notebook_vs_paper.draw(STUDIES, paper=other, notebook=notebook))
    same = paired_difference({0: 3.0, 1: 4.0}, {0: 2.0, 1: 3.0})
    assert (
        wording.difference(same) == "+1.00 points (equal in all 2 pairs, so the interval has no width and excludes 0)"
    )


def test_what_stands_on_a_bar_can_be_seen_on_every_colour():
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    members = [{"run": run, "label": run} for run in ("dense", *(f"sparse_0.{i}" for i in range(2, 7)), "top_down")]
    figure = study_panels.draw({**STUDIES[0], "members": members}, synthetic_results(seeds=range(3)))
    axis = panel(figure, "Time per training epoch")
    assert len(axis.patches) == 7 and len(axis.collections) == 7
    for bar, error in zip(axis.patches, axis.collections, strict=True):
        *colour, opacity = bar.get_facecolor()
        shown = [opacity * c + 1 - opacity for c in colour]
        assert (luminance(shown) + 0.05) / (luminance(error.get_edgecolor()[0][:3]) + 0.05) > 3


def test_captions_that_count_intervals_say_that_none_is_corrected():
    paper, notebook = (synthetic_results(semantics=meaning, seeds=range(3)) for meaning in ("paper", "notebook"))
    for text in (
        study_panels.caption(STUDIES[0], paper),
        notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook),
        differences_caption(differences_table(paper, STUDIES)),
    ):
        assert ", without correction for multiple comparisons." in text
    assert "correction" not in study_panels.caption(STUDIES[2], paper)  # one comparison


def test_no_line_of_a_footer_begins_with_a_percent_sign():
    figure = style.new_figure(2, 2)
    style.add_footer(figure, ["in brackets and as the bands: 95 % of what"])
    assert figure.get_supxlabel().split("\n") == ["in brackets and as the bands:", "95\u00a0% of what"]


def test_a_study_of_ones_own_is_drawn_under_its_title():
    study = {**STUDIES[0], "name": "mine", "title": "Mine", "section": "", "figure": "mine"}
    figure = study_panels.draw(study, synthetic_results(seeds=range(2)))
    assert figure.get_suptitle().startswith("Mine\n")
    assert study_panels.caption(study, synthetic_results()).startswith("Mine. Paper semantics")


def test_mixed_semantics_missing_runs_and_ragged_epochs_are_refused():
    both = synthetic_results() + synthetic_results(semantics="notebook")
    with pytest.raises(AfmpError, match="one figure has one semantics"):
        study_panels.draw(STUDIES[0], both)
    with pytest.raises(AfmpError, match="'top_down' has no results"):
        study_panels.draw(STUDIES[2], [synthetic_result("sparse_0.3")])
    ragged = [synthetic_result("top_down"), synthetic_result("sparse_0.3")]
    ragged.append(synthetic_result("sparse_0.3", seed=1, epochs=5))
    with pytest.raises(AfmpError, match="seed 0: 3, seed 1: 5"):
        study_panels.draw(STUDIES[2], ragged)


def test_study_caption_reads_the_results():
    results = synthetic_results(epochs=20)
    text = study_figure(STUDIES[0]).caption(STUDIES[0], results)
    means = {
        m["label"]: mean_and_interval([r["test_accuracy"] for r in results if r["run"] == m["run"]])
        for m in STUDIES[0]["members"]
    }
    best = max(means, key=lambda label: means[label].mean)
    assert f"{best}, {means[best].mean:.2f} ± {means[best].half:.2f} % (n = 5)" in text
    assert "dataset digits, 5 seeds, 20 epochs, on CPU, 2 cores" in text
    run = next(m["run"] for m in STUDIES[0]["members"] if m["label"] == best)
    ours, dense = (by_seed([r for r in results if r["run"] == name], "test_accuracy") for name in (run, "dense"))
    paired = paired_difference(ours, dense)
    assert f"{paired.mean:+.2f} points (95 % interval {paired.low:+.2f} to {paired.high:+.2f} over 5 pairs" in text
    assert f"which {'excludes' if paired.excludes_zero else 'includes'} 0" in text
    assert "optimistic" in study_figure(STUDIES[0]).caption(STUDIES[0], synthetic_results(semantics="notebook"))


@pytest.mark.parametrize(("shift", "verdict"), [(5.0, "excludes 0"), (0.0, "includes 0")])
def test_the_caption_concludes_from_the_numbers_alone(shift, verdict):
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["test_accuracy"] = 30.0 + [-1, 0, 1][result["seed"]] * (1 if result["run"] == "top_down" else 0.9)
        result["test_accuracy"] += shift * (result["run"] == "top_down")
    assert verdict in study_figure(STUDIES[2]).caption(STUDIES[2], results)


def sweep(**failed):
    """The seed's six sizes for both models; `failed` maps a model to {resolution: status}."""
    points = [
        synthetic_point(model, size, status=failed.get(model, {}).get(size, "ok")) for size in SIX for model in MODELS
    ]
    return synthetic_scalability(points)


TIME, PEAK = "Time per image, forward + backward", "Peak memory per image, forward + backward"
AFMP_LINE, DEIT_LINE = "AFMP-Small (paper semantics): fp32, eager", "DeiT-Tiny: fp32, fused attention, eager"


def test_scalability_draws_median_quartiles_and_memory():
    content = sweep()
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
    figure = scalability_results.draw(sweep(deit_tiny={192: "oom", 224: "error"}, afmp_small={224: "oom"}))
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


def test_scalability_of_nothing_measured_and_of_one_point():
    nothing = sweep(**{model: dict.fromkeys(SIX, "oom") for model in MODELS})
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


def wide_sweep(**options):
    """The seed's smallest and largest sizes and some beyond, the batch reduced as the workflow does."""
    sizes = {64: 64, 224: 64, 448: 16, 896: 4, 1792: 1, 3584: 1}
    points = [synthetic_point(model, size, batch_size=b, **options) for size, b in sizes.items() for model in MODELS]
    return synthetic_scalability(points)


def test_scalability_axes_are_logarithmic_for_a_wide_sweep():
    figure = scalability_results.draw(wide_sweep())
    axis = panel(figure, TIME)
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels[0] == "16\n64 px\nB 64" and labels[-1] == "50,176\n3,584 px\nB 1"


def test_scalability_caption_has_ratios_and_failures():
    content = sweep(deit_tiny={192: "oom", 224: "error"})
    text = scalability_results.caption(content)
    ours, theirs = (next(p for p in content["points"] if (p["model"], p["resolution"]) == (m, 160)) for m in MODELS)
    ratio = theirs["time_ms"]["median"] / ours["time_ms"]["median"]
    assert "is 100 patches (160 px)" in text and f"{ratio:.2f} in time" in text
    assert "DeiT-Tiny, fused attention, at 192 px, forward + backward (out of memory), in fp32 eager" in text
    error = "(error: RuntimeError: cuDNN not found)"
    assert f"DeiT-Tiny, fused attention, at 224 px, forward + backward {error}, in fp32 eager" in text


def test_the_best_configuration_of_each_model_is_its_main_line_and_the_others_are_faint():
    content = sweep(deit_tiny={224: "oom"})
    # bf16 is faster, and DeiT-Tiny is measured at one size more.
    content["points"] += [{**p, "precision": "bf16"} for p in sweep()["points"] if p["model"] == "deit_tiny"]
    axis = panel(scalability_results.draw(content), TIME)
    assert curve(axis, "DeiT-Tiny: bf16, fused attention, eager").get_alpha() is None
    faint = [line for line in axis.lines if str(line.get_gid()).startswith("faint")]
    assert [line.get_gid() for line in faint] == ["faint: fp32, fused attention, eager"]
    assert faint[0].get_alpha() < 0.5 and len(faint[0].get_xdata()) == 5


def test_faint_lines_are_not_drawn_on_one_another():
    content = sweep()
    points = [p for p in content["points"] if p["model"] == "deit_tiny"]
    content["points"] += [{**p, "precision": "bf16", "execution": e} for p in points for e in ("eager", "graph")]
    figure = scalability_results.draw(content)
    faint = [line for line in panel(figure, PEAK).lines if str(line.get_gid()).startswith("faint")]
    assert len(faint) == 1
    assert "other configurations of both models" in all_text(figure)
    assert "other configurations" not in all_text(scalability_results.draw(sweep()))


def test_each_mode_has_its_panels_and_the_other_semantics_is_a_third_line():
    content = sweep()
    content["points"] += [synthetic_point(model, size, mode="inference") for size in SIX for model in MODELS]
    notebook = {**content, "semantics": "notebook"}
    for module, titles in (
        (scalability_results, ("Time per image", "Peak memory per image")),
        (scalability_fits, ("Time per image", "Activations per image")),
    ):
        figure = module.draw(content, [notebook])
        for title in titles:
            for passes in ("forward + backward", "inference"):
                axis = panel(figure, f"{title}, {passes}")
                labels = [line.get_label() for line in axis.lines if not line.get_label().startswith("_")]
                assert labels == [AFMP_LINE, DEIT_LINE, AFMP_LINE.replace("paper", "notebook")]


def test_fits_figure_says_coefficients_slopes_and_crossing():
    content = wide_sweep()
    text = all_text(scalability_fits.draw(content))
    assert "c2 5.96e-06 [" in text and "local slope 1.00 [" in text and "local slope 1.99 [" in text
    assert (
        "c2 N² is 100 % at N = 50,176" in text and "DeiT-Tiny's fit is above AFMP-Small's at every N measured" in text
    )
    # Activations of the synthetic points.
    assert "c1 0.141 MB  c2 0 MB" in text
    assert "DeiT-Tiny's fit is above AFMP-Small's from N = 150 to the largest N measured (50,176)." in text
    caption = scalability_fits.caption(content)
    assert "Local slope of time between the two largest sizes" in caption and "[" in caption
    for point in content["points"]:
        if point["model"] == "deit_tiny":
            point["time_ms"] = {key: np.asarray(found) * 1e-6 for key, found in point["time_ms"].items()} | {"n": 10}
    assert "DeiT-Tiny's fit is below AFMP-Small's at every N measured" in scalability_fits.caption(content)


def test_a_model_keeps_its_look_from_figure_to_figure():
    paper = sweep()
    notebook = {**paper, "semantics": "notebook"}
    found = {}
    for module in (scalability_results, scalability_fits):
        for sweeps in ((paper, notebook), (notebook, paper)):
            axis = panel(module.draw(sweeps[0], sweeps[1:]), TIME)
            for line in axis.lines:
                if line.get_label().startswith(("AFMP", "DeiT")):
                    found.setdefault(line.get_label(), set()).add((line.get_color(), line.get_linestyle()))
    assert len(found) == 3 and all(len(looks) == 1 for looks in found.values())
    assert len(set().union(*found.values())) == 3
    both = notebook_vs_paper.draw(STUDIES, paper=synthetic_results(), notebook=synthetic_results(semantics="notebook"))
    axis = panel(both, "7.1 Sparsity level")
    for name in ("paper", "notebook"):
        ((colour, _),) = found[AFMP_LINE.replace("paper", name)]
        assert curve(axis, name).get_color() == colour


def test_quartile_bars_of_one_size_stand_side_by_side():
    paper = sweep()
    figure = scalability_results.draw(paper, [{**paper, "semantics": "notebook"}])
    axis = panel(figure, TIME)
    places = [
        collection.get_transform().transform(collection.get_segments()[0])[0, 0]
        for collection in axis.collections
        if len(collection.get_segments())
    ]
    assert len(places) == 3 and (np.diff(places) > 2).all()
    assert not panel(figure, PEAK).collections  # a memory is read once


def test_the_scalability_footer_speaks_of_what_is_drawn_alone():
    plain = sweep()
    plain["points"][0]["time_ms"]["n"] = 5
    text = all_text(scalability_results.draw(plain))
    assert "median of 5 to 10 passes" in text and "CUDA graph" not in text and "aint" not in text
    graphs = sweep()
    graphs["points"] += [synthetic_point(model, size, execution="graph") for size in SIX for model in MODELS]
    text = all_text(scalability_results.draw(graphs))
    assert (
        "median of 10 passes" in text and "never read under a CUDA graph" in text and "Faint lines: all others" in text
    )


def test_no_crossing_is_claimed_on_which_the_passes_do_not_agree():
    content = wide_sweep()
    assert "no crossing" not in scalability_fits.caption(content)
    generator = np.random.default_rng(0)
    for point in content["points"]:
        # Both models take as long, and their passes vary by far more than they differ.
        speed = 1e-3 * point["num_patches"] * point["batch_size"]
        every = speed * generator.uniform(0.5, 1.5, 10)
        point["time_ms"] |= {"median": float(np.median(every)), "all": every.tolist()}
    text = "no crossing is established: the bootstrap samples, or the points and the fits, disagree"
    assert f"In time, {text}" in scalability_fits.caption(content)
    assert f"N{text[1:]}" in all_text(scalability_fits.draw(content))


def test_the_legends_of_both_meanings_are_unambiguous_and_cover_no_curve():
    figure = notebook_vs_paper.draw(
        STUDIES, paper=synthetic_results(), notebook=synthetic_results(semantics="notebook")
    )
    meanings, runs = (axis.get_legend() for axis in figure.axes if axis.get_legend())
    if meanings.get_texts()[0].get_text() != "paper semantics":
        meanings, runs = runs, meanings
    # A meaning is a colour and a marker without a line, a run is a line without a marker.
    assert [handle.get_linestyle() for handle in meanings.get_lines()] == ["None", "None"]
    assert len({handle.get_marker() for handle in meanings.get_lines()}) == 2
    assert [text.get_text() for text in runs.get_texts()] == ["Dense", "Sparse 0.3"]
    assert [handle.get_linestyle() for handle in runs.get_lines()] == ["-", "--"]
    assert {handle.get_marker() for handle in runs.get_lines()} == {"None"}
    figure.canvas.draw()
    assert not runs.get_window_extent().overlaps(runs.axes.get_window_extent())
    left = min(label.get_window_extent().x0 for axis in figure.axes for label in axis.get_yticklabels())
    assert left > 0.1 * figure.dpi


def test_both_meanings_stand_side_by_side():
    paper, notebook = (
        synthetic_results(seeds=range(3)),
        synthetic_results(semantics="notebook", seeds=range(3)),
    )
    figure = notebook_vs_paper.draw(STUDIES, paper=paper, notebook=notebook)
    for study in STUDIES:
        axis = panel(figure, f"{study['section']} {study['title']}")
        for semantics, results in (("paper", paper), ("notebook", notebook)):
            means = [np.mean([r["test_accuracy"] for r in results if r["run"] == m["run"]]) for m in study["members"]]
            np.testing.assert_allclose(curve(axis, semantics).get_xdata(), means)
    references = panel(figure, "Reference runs during training")
    np.testing.assert_allclose(
        curve(references, "Dense, notebook").get_ydata(), history(notebook, "dense", "val_acc").mean(0)
    )
    labels = [line.get_label() for line in references.lines]
    assert labels == ["Dense, paper", "Dense, notebook", "Sparse 0.3, paper", "Sparse 0.3, notebook"]
    assert "chooses its best epoch on the test set" in all_text(figure)
    text = notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook)
    gaps = {}
    for run in {r["run"] for r in paper}:
        ours, theirs = (by_seed([r for r in of if r["run"] == run], "test_accuracy") for of in (paper, notebook))
        gaps[run] = paired_difference(ours, theirs).mean
    assert f"{min(gaps.values()):+.2f} points" in text and f"{max(gaps.values()):+.2f} points" in text
    assert "The same 9 runs" in text and "3 seeds" in text
    notebook[0]["dataset"] = notebook[0]["dataset"] | {"num_train": 1440}
    text = notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook)
    assert "it trains on 1,300 to 1,440 images. Paper chooses on images held out" in text
    assert text.endswith("it trains on 1,300 images.")
    with pytest.raises(AfmpError, match="among those of paper"):
        notebook_vs_paper.draw(STUDIES, paper=notebook, notebook=paper)


def test_both_meanings_with_one_seed_and_one_study():
    paper, notebook = synthetic_results(seeds=[0]), synthetic_results(semantics="notebook", seeds=[0])
    figure = notebook_vs_paper.draw(STUDIES[:1], paper=paper, notebook=notebook)
    assert "n = 1, no interval" in all_text(figure)
    assert "so no interval" in notebook_vs_paper.caption(STUDIES[:1], paper=paper, notebook=notebook)


def test_diagnostics_draw_open_edges_by_their_gates():
    content = synthetic_diagnostics()
    image = np.full((3, 32, 32), 200, dtype=np.uint8)
    figure = diagnostics.draw(content, epoch=100, image=image)
    assert (
        figure.get_suptitle()
        == "Run sparse_0.3, seed 0, epoch 100\npaper semantics: what the text of the original notebook describes"
    )
    gates = np.array(content["epochs"]["100"]["mean_gate"][2])
    axis = panel(figure, "Communication graph, layer 2")
    edges = by_gid(axis, "edges")
    assert len(edges.get_paths()) == (gates > 0).sum() < len(gates)
    opacity = edges.get_facecolor()[:, 3]
    np.testing.assert_array_equal(np.argsort(opacity), np.argsort(gates[gates > 0]))
    bars = panel(figure, "Edges pruned per layer").patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], content["epochs"]["100"]["pruned_percent"])
    assert "not among the k kept" in panel(figure, "Edges pruned per layer").get_ylabel()
    histogram = panel(figure, "Mean gates of layer 2")
    assert histogram.get_yscale() == "log"
    drawn = sum(p.get_height() for p in histogram.patches if to_rgba(style.GREEN)[:3] == p.get_facecolor()[:3])
    assert drawn == (gates > 0).sum()
    assert f"gate exactly 0: {(gates == 0).sum()} edges" in all_text(figure)
    # The bar of exact zeros stands over a label of its own, off the axis of gates from 0 to 1.
    closed = next(p for p in histogram.patches if to_rgba(style.GREY) == p.get_facecolor())
    assert closed.get_x() + closed.get_width() < 0
    labels = dict(zip(histogram.get_xticks(), [t.get_text() for t in histogram.get_xticklabels()], strict=True))
    assert labels[closed.get_x() + closed.get_width() / 2] == "exactly\n0"
    assert all(text == f"{at:.1f}" for at, text in labels.items() if at >= 0)


def test_edges_narrow_from_sender_to_receiver_in_image_coordinates():
    # Row 4, column 12 sends to row 20, column 12: the edge runs down the image along x = 12.
    (wedge,) = diagnostics.wedges(np.array([[4.0, 12.0], [20.0, 12.0]]), np.array([[1], [0]]), np.array([2.0]))
    start, side, tip = wedge
    np.testing.assert_allclose([start[0], tip[0], abs(side[0] - 12)], [12, 12, 2])
    assert 4 < start[1] == side[1] < tip[1] < 20
    (back,) = diagnostics.wedges(np.array([[4.0, 12.0], [20.0, 12.0]]), np.array([[0], [1]]), np.array([2.0]))
    assert np.sign(back[1][0] - 12) == -np.sign(side[0] - 12)


def test_diagnostics_of_the_notebook_count_what_the_seed_counts():
    content = synthetic_diagnostics(semantics="notebook")
    figure = diagnostics.draw(content, epoch=10, image=np.zeros((3, 32, 32), dtype=np.uint8))
    assert "mean gate below 0.5" in all_text(figure) and "notebook semantics" in figure.get_suptitle()
    assert "mean gate below 0.5" in diagnostics.caption(content, epoch=10)
    with pytest.raises(AfmpError, match="epoch 11; recorded are 10, 100"):
        diagnostics.draw(content, epoch=11, image=np.zeros((3, 32, 32), dtype=np.uint8))


@pytest.mark.filterwarnings("error")
def test_diagnostics_of_one_patch_have_no_edges(tmp_path):
    content = synthetic_diagnostics(side=1)
    figure = diagnostics.draw(content, epoch=10, image=np.zeros((3, 8, 8), dtype=np.uint8))
    assert "no edges" in all_text(figure) and "no edges" in diagnostics.caption(content, epoch=10)
    style.save_figure(figure, png=tmp_path / "figure.png")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_saved_twice_is_the_same_and_holds_no_date(tmp_path):
    files = []
    for name in ("one", "other"):
        figure = study_panels.draw(STUDIES[2], synthetic_results(seeds=[0]))
        png, pdf = tmp_path / name / "figure.png", tmp_path / name / "figure.pdf"
        style.save_figure(figure, png=png, pdf=pdf)
        files.append((png.read_bytes(), pdf.read_bytes()))
    assert files[0] == files[1]
    assert b"CreationDate" not in files[0][1]
    width, height = np.frombuffer(files[0][0][16:24], dtype=">u4")
    assert width == 12 * style.DPI and height > 8 * style.DPI


def test_the_figure_of_the_full_sweep_is_small_enough_for_an_archive(tmp_path):
    asked = yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text())["scalability"]
    settings = product(
        asked["resolutions"], asked["precision"], asked["mode"], asked["execution"], [*asked["attention"], None]
    )
    points = [
        synthetic_point(
            "deit_tiny" if attention else "afmp_small",
            resolution,
            precision=precision,
            mode=mode,
            execution=execution,
            attention=attention,
        )
        for resolution, precision, mode, execution, attention in settings
    ]
    sweeps = [synthetic_scalability(points, semantics=semantics) for semantics in ("paper", "notebook")]
    style.save_figure(scalability_results.draw(sweeps[0], sweeps[1:]), png=tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size < 0.85 * MAX_FILE_BYTES


def test_captions_are_restructured_text_without_a_fault():
    core = pytest.importorskip("docutils.core")
    quiet = {"halt_level": 2, "report_level": 2}
    paper, notebook = (
        synthetic_results(seeds=range(2)),
        synthetic_results(semantics="notebook", seeds=range(2)),
    )
    study = {
        **STUDIES[0],
        "members": [{**m, "label": f"*{m['run']}_ |`{m['label']}"} for m in STUDIES[0]["members"]],
    }
    for text in (
        study_panels.caption(study, paper),
        notebook_vs_paper.caption(STUDIES, paper=paper, notebook=notebook),
        scalability_results.caption(sweep(deit_tiny={224: "error"})),
        scalability_fits.caption(sweep()),
        diagnostics.caption(synthetic_diagnostics(), epoch=10),
    ):
        html = core.publish_parts(text, writer="html", settings_overrides=quiet)
        assert "problematic" not in html["body"] and "</a>" not in html["body"]
        sentences = re.findall(r"[.?](?= [A-Z]|$)", text)
        assert 2 <= len(sentences) <= 6
    escaped = study_panels.caption({**study, "reference": "sparse_0.2"}, paper)
    assert "*sparse_0.2_ |`Sparse 0.2" in core.publish_string(escaped, writer="pseudoxml").decode()


def test_figures_leave_matplotlibs_settings_and_torch_alone():
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from afmp.figures import diagnostics, notebook_vs_paper, scalability_fits, scalability_results\n"
        "from afmp.figures import comparison_results_full, lambda_sparse_comparison\n"
        "from afmp.figures.parts import study_panels\n"
        "from synthetic_results import STUDIES, synthetic_results\n"
        "study_panels.draw(STUDIES[0], synthetic_results())\n"
        "foreign = {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "sys.exit(bool(foreign) or matplotlib.rcParams.copy() != before)"
    )
    here = Path(__file__).parent
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{here}:{here.parent}"}).returncode == 0
