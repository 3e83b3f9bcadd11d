"""The panels of a study: curves, bands, bars, legends, and notes for special cases."""

import numpy as np
import pytest
from drawn_figures import all_text, by_gid, curve, history, panel, study_figure
from synthetic_results import GPU, STUDIES, synthetic_result, synthetic_results

from afmp.analysis.metrics import epoch_time
from afmp.analysis.statistics import mean_and_interval
from afmp.errors import AfmpError
from afmp.figures.parts import study_panels


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
    results = synthetic_results(seeds=range(3), device=GPU)
    axis = panel(study_figure(STUDIES[2]).draw(STUDIES[2], results), "Time per training epoch")
    for member in STUDIES[2]["members"]:
        times = [epoch_time(r) for r in results if r["run"] == member["run"]]
        assert by_gid(axis, f"time: {member['label']}").get_width() == pytest.approx(np.mean(times))
        assert np.mean(times) < 2 < history(results, member["run"], "time")[:, 0].mean()
    assert "without the first, s" in axis.get_xlabel()


def test_the_time_of_a_stack_has_a_note_and_no_interval():
    results = synthetic_results(seeds=range(3), device=GPU)
    for result in results:
        result["trained_together"] = [0, 1, 2]
    figure = study_figure(STUDIES[2]).draw(STUDIES[2], results)
    times = [text.get_text() for text in panel(figure, "Time per training epoch").texts]
    assert len(times) == 2 and not any("±" in text for text in times)
    text = all_text(figure)
    assert "band and error bar" not in text and "as one stack" in text
    alone = all_text(study_figure(STUDIES[2]).draw(STUDIES[2], synthetic_results(seeds=range(3), device=GPU)))
    assert "band and error bar" in alone and "stack" not in alone and "at the same time" not in alone


def test_times_are_left_out_if_a_run_shared_its_device_and_the_figure_says_so():
    results = synthetic_results(seeds=range(3), device=GPU)
    results[0]["trained_beside"] = ["dense", "sparse_0.2"]
    assert results[0]["run"] in [member["run"] for member in STUDIES[0]["members"]]
    figure = study_figure(STUDIES[0]).draw(STUDIES[0], results)
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["Validation accuracy", "Training loss", "Sparsity loss"]
    text = " ".join(all_text(figure).split())
    assert "Times per epoch are not shown: up to 2 other runs trained on the device at the same time." in text
    assert "error bar" not in text and "Times:" not in text


def test_times_are_left_out_if_only_some_runs_are_stacks_and_the_figure_says_so():
    results = synthetic_results(seeds=range(3), device=GPU)
    stacked = STUDIES[0]["members"][0]["run"]
    for result in results:
        result["trained_together"] = [0, 1, 2] if result["run"] == stacked else [result["seed"]]
    figure = study_figure(STUDIES[0]).draw(STUDIES[0], results)
    assert "Time per training epoch" not in [axis.get_title() for axis in figure.axes]
    text = " ".join(all_text(figure).split())
    assert "Times per epoch are not shown: some runs trained their seeds as one stack and others" in text
    assert "error bar" not in text and "Times:" not in text


def test_times_of_a_cpu_are_left_out_and_the_figure_says_so():
    """Jobs on a CPU share it, and no result says with how many others."""
    figure = study_figure(STUDIES[0]).draw(STUDIES[0], synthetic_results(seeds=range(3)))
    assert "Time per training epoch" not in [axis.get_title() for axis in figure.axes]
    text = " ".join(all_text(figure).split())
    assert "Times per epoch are not shown: jobs may have shared the CPU" in text and "error bar" not in text


def test_identical_runs_are_named():
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
def test_a_study_shows_semantics_runs_units_and_numbers(study, semantics):
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


def test_one_seed_has_a_note_and_no_interval():
    results = synthetic_results(seeds=[0])
    figure = study_figure(STUDIES[0]).draw(STUDIES[0], results)
    assert "n = 1, no interval" in all_text(figure)
    assert "±" not in all_text(figure)
    assert not [a for axis in figure.axes for a in axis.findobj() if str(a.get_gid()).startswith("band")]
    assert "n = 1, no interval" in study_figure(STUDIES[0]).caption(STUDIES[0], results)


def test_runs_with_different_numbers_of_seeds_show_their_own():
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


def test_three_lambdas_are_far_apart_on_a_log_axis():
    axis = panel(study_figure(STUDIES[1]).draw(STUDIES[1], synthetic_results()), "Sparsity loss")
    assert axis.get_yscale() == "log"
    low, high = np.log10(axis.get_ylim())
    heights = [(np.log10(curve(axis, m["label"]).get_ydata()[-1]) - low) / (high - low) for m in STUDIES[1]["members"]]
    assert (np.abs(np.diff(heights)) > 0.2).all() and min(heights) > 0 and max(heights) < 1


@pytest.mark.filterwarnings("error")
def test_runs_without_a_regulariser_have_a_note():
    axis = panel(study_figure(STUDIES[0]).draw(STUDIES[0], synthetic_results()), "Sparsity loss")
    assert "0 at every epoch (the line at 0): Dense" in [text.get_text() for text in axis.texts]
    assert axis.get_ylim()[0] < 0
    study = {**STUDIES[1], "members": [*STUDIES[1]["members"], {"run": "dense", "label": "Dense"}]}
    axis = panel(study_figure(study).draw(study, synthetic_results()), "Sparsity loss")
    assert "0 at every epoch (not shown on the log axis): Dense" in [text.get_text() for text in axis.texts]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shared", [False, True])
def test_a_study_without_a_sparsity_loss_has_no_panel_of_it(shared):
    study = {**STUDIES[1], "reference": "dense", "members": [{"run": "dense", "label": "Dense"}]}
    results = synthetic_results(device=GPU)
    for result in results if shared else ():
        result["trained_beside"] = ["sparse_0.2"]
    figure = study_figure(study).draw(study, results)
    figure.canvas.draw()
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["Validation accuracy", "Training loss", *["Time per training epoch"] * (not shared)]
    assert panel(figure, "Training loss").get_ylabel() == "Cross entropy, nats"
    assert "The sparsity loss is 0 in all runs at every epoch." in all_text(figure)


def test_wide_intervals_do_not_flatten_the_curves():
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["training_history"]["val_acc"] = [10.0 + 9 * (result["seed"] == 2), 20.0, 30.0]
    figure = study_panels.draw(STUDIES[2], results)
    low, high = panel(figure, "Validation accuracy").get_ylim()
    assert 0 <= low < 10 and 30 < high < 45
    # The band of the first epoch is 13 ± 12.9, wider than the panel.
    assert "Intervals are cut" in all_text(figure)


def test_two_seeds_are_thin_lines_without_a_band():
    results = synthetic_results(seeds=range(2), device=GPU)
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
    low, high = sorted(r["best_val_accuracy"] for r in results if r["run"] == "top_down")
    assert f"With top-down: {low:.2f} and {high:.2f} %" in text


def test_axes_end_at_accuracies_0_and_100_and_at_loss_0():
    results = synthetic_results(seeds=range(3))
    for result in results:
        last = [0.0, 60.0, 99.0][result["seed"]]
        result["test_accuracy"] = last
        result["training_history"] |= {"val_acc": [1.0, 50.0, last], "train_loss": [2.0, 1.0, 0.1 * result["seed"]]}
    figure = study_panels.draw(STUDIES[2], results)
    assert panel(figure, "Validation accuracy").get_ylim() == (0, 100)
    assert panel(figure, "Training loss").get_ylim()[0] == 0


def test_equal_accuracies_have_a_note_on_their_resolution_and_no_interval_of_0():
    results = synthetic_results(seeds=range(3))
    other_figure = all_text(study_panels.draw(STUDIES[2], results)) + study_panels.caption(STUDIES[2], results)
    for result in results:
        if result["run"] == "top_down":
            result["test_accuracy"] = 40.0
    note = "one image of 357 is 0.28 points"
    assert note not in other_figure
    figure = all_text(study_panels.draw(STUDIES[2], results)).replace("\u00a0", " ")
    for text in (figure, study_panels.caption(STUDIES[2], results)):
        assert "40.00 %, equal for all seeds" in text and note in text and "± 0.00" not in text


def test_error_bars_are_visible_on_bars_of_every_colour():
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    members = [{"run": run, "label": run} for run in ("dense", *(f"sparse_0.{i}" for i in range(2, 7)), "top_down")]
    figure = study_panels.draw({**STUDIES[0], "members": members}, synthetic_results(seeds=range(3), device=GPU))
    axis = panel(figure, "Time per training epoch")
    assert len(axis.patches) == 7 and len(axis.collections) == 7
    for bar, error in zip(axis.patches, axis.collections, strict=True):
        *colour, opacity = bar.get_facecolor()
        shown = [opacity * c + 1 - opacity for c in colour]
        assert (luminance(shown) + 0.05) / (luminance(error.get_edgecolor()[0][:3]) + 0.05) > 3


def test_a_study_without_its_own_figure_file_has_its_title():
    study = {**STUDIES[0], "name": "mine", "title": "Mine", "section": "", "figure": "mine"}
    figure = study_panels.draw(study, synthetic_results(seeds=range(2)))
    assert figure.get_suptitle().startswith("Mine\n")
    assert study_panels.caption(study, synthetic_results()).startswith("Mine. Paper semantics")


def test_mixed_semantics_missing_runs_and_different_epochs_are_refused():
    both = synthetic_results() + synthetic_results(semantics="notebook")
    with pytest.raises(AfmpError, match="one figure has one semantics"):
        study_panels.draw(STUDIES[0], both)
    with pytest.raises(AfmpError, match="'top_down' has no results"):
        study_panels.draw(STUDIES[2], [synthetic_result("sparse_0.3")])
    ragged = [synthetic_result("top_down"), synthetic_result("sparse_0.3")]
    ragged.append(synthetic_result("sparse_0.3", seed=1, epochs=5))
    with pytest.raises(AfmpError, match="seed 0: 3, seed 1: 5"):
        study_panels.draw(STUDIES[2], ragged)


def test_a_rival_is_drawn_among_the_runs_of_its_study_and_named_below_them():
    member = STUDIES[2]["members"][0] | {"semantics": "timm"}
    study = STUDIES[2] | {"members": [member, STUDIES[2]["members"][1]]}
    results = [
        result | {"semantics": "timm"} if result["run"] == "top_down" else result
        for result in synthetic_results(seeds=range(3))
    ]
    figure = study_panels.draw(study, results)
    assert curve(panel(figure, "Validation accuracy"), "With top-down") is not None
    said = all_text(figure)
    assert "paper semantics: " in said and "Models of timm, to compare with: With top-down." in said
    assert "Models of timm, to compare with: With top-down." in study_panels.caption(study, results)
    assert "Models of timm" not in study_panels.caption(STUDIES[2], synthetic_results(seeds=range(3)))


def test_a_study_of_rivals_alone_is_drawn_as_such():
    study = STUDIES[2] | {"members": [member | {"semantics": "timm"} for member in STUDIES[2]["members"]]}
    results = [result | {"semantics": "timm"} for result in synthetic_results(seeds=range(3))]
    assert "timm semantics: a model of timm, to compare with" in all_text(study_panels.draw(study, results))
