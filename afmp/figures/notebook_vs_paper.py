"""Figure notebook_vs_paper: the same runs under both semantics, and the curves of the reference runs."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from afmp.analysis import wording
from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import paired_difference
from afmp.analysis.wording import distinct
from afmp.errors import AfmpError
from afmp.figures.parts import palette, study_text, style
from afmp.figures.parts.curves import draw_curve
from afmp.figures.parts.study_runs import resolution_note, study_runs
from afmp.study.semantics import COMPARED_SEMANTICS

COLUMNS = 2


@style.styled
def draw(studies: list[dict], *, paper: list[dict], notebook: list[dict]) -> Figure:
    """Draw one panel per study with both test accuracies of each run, and one panel with the reference runs' curves."""
    both = _both(studies, paper, notebook)
    rows = -(-(len(studies) + 1) // COLUMNS)
    longest = max(len(study["members"]) for study in studies)
    height = max(3.2, 0.9 + 0.42 * longest)
    figure = style.new_figure(12.5, 1.9 + height * rows)
    style.add_title(
        figure,
        "The same runs under both semantics",
        subtitle="; ".join(f"{semantics}: {wording.SEMANTICS_IN_WORDS[semantics]}" for semantics in COMPARED_SEMANTICS),
    )
    grid = figure.add_gridspec(rows + 1, COLUMNS, height_ratios=[0.3] + [height] * rows)
    places = [figure.add_subplot(grid[1 + i // COLUMNS, i % COLUMNS]) for i in range(len(studies) + 1)]
    for axis, study, runs in zip(places, studies, both, strict=False):
        _draw_study(axis, study, runs)
    cut = [_limit_accuracy(places[:-1], both), _draw_references(places[-1], studies, both)]
    legend = figure.add_subplot(grid[0, :])
    legend.set_axis_off()
    # Colour and marker show the semantics. Lines show the runs of the last panel.
    look = {"linestyle": "none", "markersize": 7}
    handles = [
        legend.plot([], [], label=f"{name} semantics", **palette.SEMANTICS_STYLE[name] | look)[0]
        for name in COMPARED_SEMANTICS
    ]
    legend.legend(handles=handles, loc="center", ncols=2, columnspacing=3)
    style.add_footer(figure, _footer(both, cut=any(cut)))
    return figure


def _both(studies: list[dict], paper: list[dict], notebook: list[dict]) -> list[dict]:
    """Return {semantics: its runs} for each study. Raises AfmpError for results of the wrong semantics."""
    if not studies:
        raise AfmpError("notebook_vs_paper: found no study; config.yaml needs at least one under studies.")
    by_semantics = {"paper": paper, "notebook": notebook}
    for semantics, results in by_semantics.items():
        wrong = {result["semantics"] for result in results} - {semantics}
        if wrong:
            raise AfmpError(
                f"notebook_vs_paper: found results of {sorted(wrong)} among those of {semantics}; give each its own."
            )
    return [{name: study_runs(study, results)[0] for name, results in by_semantics.items()} for study in studies]


def _draw_study(axis, study: dict, runs: dict) -> None:
    members = range(len(study["members"]))
    accuracies = {name: [run.interval("test_accuracy") for run in runs[name]] for name in runs}
    for row in members:
        pair = [intervals[row].mean for intervals in accuracies.values()]
        axis.plot(pair, [row - 0.13, row + 0.13], color="#BBBBBB", linewidth=1.2, zorder=2)
    for (name, intervals), offset in zip(accuracies.items(), (-0.13, 0.13), strict=True):
        look = {**palette.SEMANTICS_STYLE[name], "linestyle": "none"}
        mean, rows = [float(interval.mean) for interval in intervals], np.array(members) + offset
        axis.plot(mean, rows, label=name, markersize=7, zorder=4, **look)
        bars = {"fmt": "none", "color": look["color"], "capsize": 3, "linewidth": 1.2, "zorder": 3}
        ticks = {"linestyle": "none", "color": look["color"], "marker": "|", "markersize": 10, "gid": f"seeds: {name}"}
        for run, row, centre, interval in zip(runs[name], rows, mean, intervals, strict=True):
            if interval.n >= wording.FEWEST_SEEDS:
                axis.errorbar(centre, row, xerr=interval.half, **bars)
            elif interval.n == 2:
                axis.plot(run.values("test_accuracy"), [row, row], zorder=3, **ticks)
    axis.set_yticks(members, [wording.shortened(member["label"], lines=2) for member in study["members"]])
    axis.set_ylim(len(members) - 0.45, -0.55)
    axis.grid(visible=False, axis="y")
    title = wording.fill(study_text.title(study), 60, max_lines=2, placeholder=" …")
    axis.set(title=title, xlabel="Test accuracy at the best epoch, %")


def _limit_accuracy(axes, both) -> bool:
    """Set equal accuracy axes for all studies. Returns whether an interval is cut."""
    runs = [run for study in both for members in study.values() for run in members]
    intervals = [run.interval("test_accuracy") for run in runs]
    drawn = [interval for interval in intervals if interval.n >= wording.FEWEST_SEEDS]
    values, low, high = [run.values("test_accuracy") for run in runs], [i.low for i in drawn], [i.high for i in drawn]
    left, right, cut = style.readable_limits(values, low=low, high=high)
    for axis in axes:
        axis.set_xlim(max(left, 0), min(right, 100))
    return cut


def _draw_references(axis, studies, both) -> bool:
    """Draw the curves of each reference run once. Returns whether an interval is cut."""
    references: dict[str, dict] = {}
    for study in studies:
        # Labelled as in its first study: sparse_0.3 is a sparsity level before it is a λ.
        references[study["reference"]] = {
            name: next(run for runs in both for run in runs[name] if run.name == study["reference"])
            for name in COMPARED_SEMANTICS
        }
    labels = [wording.shortened(pair["paper"].label, lines=1) for pair in references.values()]
    curves, low, high = [], [], []
    for index, pair in enumerate(references.values()):
        for name, run in pair.items():
            look = {**palette.SEMANTICS_STYLE[name], "linestyle": palette.LINES[index % len(palette.LINES)]}
            curves.append(run.curve("val_acc"))
            label = f"{labels[index]}, {name}"
            band = draw_curve(axis, curves[-1], label=label, look=look, index=index)
            low.append(band[0])
            high.append(band[1])
    style.epoch_axis(axis, max(curve.shape[1] for curve in curves))
    cut = style.value_limits(axis, curves, low=low, high=high, floor=0, ceiling=100)
    axis.set(title="Reference runs during training", ylabel="Accuracy that selects the epoch, %")
    # The legend is below the panel, where it covers no curve.
    handles = [
        Line2D([], [], color=palette.GREY, linestyle=palette.LINES[i % len(palette.LINES)]) for i in range(len(labels))
    ]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2, "handlelength": 3.2}
    axis.legend(handles, labels, **below)
    return cut


def _footer(both, *, cut: bool) -> list[str]:
    runs = [run for study in both for members in study.values() for run in members]
    results = [result for run in runs for result in run.results]
    counts = [len(run.results) for run in runs]
    seeds = wording.seeds_note(
        counts, mean="Points and lines", spread="bars and bands", single="Vertical ticks and thin lines"
    )
    return [
        f"Dataset {distinct(r['dataset']['name'] for r in results)}; {wording.counted(counts, 'seed')}, "
        f"{wording.counted([len(r['training_history']['time']) for r in results], 'epoch')} per run; "
        f"{distinct(r['device']['name'] for r in results)}.",
        _selection(results),
        seeds + " Pale grey lines join the two points of a run." + " Intervals are cut at the edge of the panel." * cut,
        resolution_note(runs, "test_accuracy"),
    ]


def _selection(results) -> str:
    """Return how the semantics differ in selection and in training images, which favours one of them."""
    trained_on = {
        name: wording.span([r["dataset"]["num_train"] for r in results if r["semantics"] == name])
        for name in COMPARED_SEMANTICS
    }
    return (
        "Notebook chooses its best epoch on the test set, so its accuracies are optimistic; it trains on "
        f"{trained_on['notebook']} images. Paper chooses on images held out of the training set; it trains on "
        f"{trained_on['paper']} images."
    )


def caption(studies: list[dict], *, paper: list[dict], notebook: list[dict]) -> str:
    """Return the caption in reStructuredText, from the results themselves."""
    both = _both(studies, paper, notebook)
    pairs = {
        run.name: (run, other) for study in both for run, other in zip(study["paper"], study["notebook"], strict=True)
    }
    differences = {
        name: paired_difference(by_seed(run.results, "test_accuracy"), by_seed(other.results, "test_accuracy"))
        for name, (run, other) in pairs.items()
    }
    compared = [name for name in pairs if differences[name].n] or list(pairs)
    results = [result for pair in pairs.values() for run in pair for result in run.results]
    low, high = (choose(compared, key=lambda name: differences[name].mean) for choose in (min, max))
    lowest, highest = (f"{pairs[name][0].label}, {wording.difference(differences[name])}" for name in (low, high))
    extremes = highest if low == high else f"lowest for {lowest}; highest for {highest}"
    known = [one.excludes_zero for one in differences.values() if one.excludes_zero is not None]
    sentences = [
        f"The same {len(pairs)} runs under both semantics (paper: {wording.SEMANTICS_IN_WORDS['paper']}; notebook: "
        f"{wording.SEMANTICS_IN_WORDS['notebook']}), dataset {distinct(r['dataset']['name'] for r in results)}, "
        f"{wording.counted([len(run.results) for pair in pairs.values() for run in pair], 'seed')}, "
        f"{wording.counted([len(r['training_history']['time']) for r in results], 'epoch')}, "
        f"on {distinct(r['device']['name'] for r in results)}.",
        f"Paper minus notebook in test accuracy, paired by seed: {extremes}.",
        f"{sum(known)} of {len(known)} runs have an interval that excludes 0"
        + f", {wording.UNCORRECTED}" * (len(known) > 1)
        + "."
        if known
        else "",
        "Range of mean test accuracy over the runs of a study: " + "; ".join(_ranges(studies, both)) + ".",
        _selection(results),
    ]
    return wording.escape_rst(" ".join(filter(None, sentences)))


def _ranges(studies, both) -> list[str]:
    texts = []
    for study, runs in zip(studies, both, strict=True):
        means = {name: [run.interval("test_accuracy").mean for run in members] for name, members in runs.items()}
        ranges = [f"{max(values) - min(values):.2f} points under {name}" for name, values in means.items()]
        texts.append(f"{study['title']}, {' and '.join(ranges)}")
    return texts
