"""Captions of a study."""

import pytest
from drawn_figures import study_figure
from synthetic_results import STUDIES, synthetic_result, synthetic_results

from afmp.analysis.metrics import by_seed
from afmp.analysis.statistics import mean_and_interval, paired_difference
from afmp.figures.parts import study_panels


def test_caption_has_the_numbers_of_the_results():
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
def test_caption_says_whether_the_interval_excludes_0(shift, verdict):
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["test_accuracy"] = 30.0 + [-1, 0, 1][result["seed"]] * (1 if result["run"] == "top_down" else 0.9)
        result["test_accuracy"] += shift * (result["run"] == "top_down")
    assert verdict in study_figure(STUDIES[2]).caption(STUDIES[2], results)


def test_caption_names_all_runs_of_a_tie():
    results = [r for r in synthetic_results(seeds=range(3)) if not r["run"].startswith("sparse")]
    sparse = [synthetic_result("sparse_0.2", seed=seed) | {"test_accuracy": 40.0 + seed} for seed in range(3)]
    results += [r | {"run": f"sparse_0.{i}"} for r in sparse for i in range(2, 7)]
    text = study_panels.caption(STUDIES[0], results)
    assert "Highest mean test accuracy: Sparse 0.2 to Sparse 0.6, all equal, 41.00 ± 2.48 % (n = 3)." in text
    assert "Best of the other runs, minus the reference Dense: Sparse 0.2 to Sparse 0.6, all equal, +" in text
    # Dense has the same mean from other accuracies: it is as high, but not equal.
    for result in results:
        if result["run"] == "dense":
            result["test_accuracy"] = 41.0 + 2 * (result["seed"] - 1)
    text = study_panels.caption(STUDIES[0], results)
    assert "accuracy: Dense, 41.00 ± 4.97 % (n = 3); Sparse 0.2 to Sparse 0.6, all equal, 41.00 ± 2.48 % (n" in text
