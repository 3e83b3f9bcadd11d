"""Figure accuracy_and_cost: where marks are, and what is not measured or not comparable."""

import pytest
from drawn_figures import all_text, by_gid, panel
from synthetic_results import CPU, GPU, STUDIES, synthetic_result

from afmp.analysis.metrics import epoch_time, memory_per_image, milliseconds_per_image
from afmp.figures import accuracy_and_cost

STUDY = STUDIES[2]


def results(device=GPU, *, together=False, seeds=3):
    found = [
        synthetic_result(member["run"], seed=seed, device=device)
        for member in STUDY["members"]
        for seed in range(seeds)
    ]
    for result in found:
        result["config"]["training"]["batch_size"] = 64
        result["dataset_memory_mb"] = 100.0 if device is GPU else None
        if together:
            result["trained_together"] = list(range(seeds))
            result["training_history"]["time"] = [3.0, 2.0, 2.0]
    return found


def test_marks_are_at_the_costs_of_each_run():
    found = results()
    figure = accuracy_and_cost.draw(STUDY, found)
    for member in STUDY["members"]:
        own = [result for result in found if result["run"] == member["run"]]
        accuracy = sum(result["test_accuracy"] for result in own) / 3
        costs = {
            "Parameters": own[0]["num_parameters"] / 1e6,
            "Training time": 1e3 * sum(map(epoch_time, own)) / 3 / own[0]["dataset"]["num_train"],
            "Memory": (412.5 - 100) * 2**20 / 1e6 / 64,
        }
        for title, cost in costs.items():
            mark = by_gid(panel(figure, title), f"{title}: {member['label']}")
            assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((cost, accuracy))


def test_seeds_of_one_stack_share_time_and_memory():
    found = [result for result in results(together=True) if result["run"] == "top_down"]
    assert milliseconds_per_image(found) == [pytest.approx(1e3 * 2 / 1300)]
    assert memory_per_image(found) == [pytest.approx(312.5 * 2**20 / 1e6 / (3 * 64))]
    assert "Up to 3 seeds trained as one stack" in all_text(accuracy_and_cost.draw(STUDY, results(together=True)))
    assert "stack" not in all_text(accuracy_and_cost.draw(STUDY, results()))


def test_memory_is_not_drawn_where_it_was_not_measured():
    axis = panel(accuracy_and_cost.draw(STUDY, results(CPU)), "Memory")
    assert not axis.lines and [text.get_text() for text in axis.texts] == ["not measured on this device"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_have_no_interval(seeds):
    figure = accuracy_and_cost.draw(STUDY, results(seeds=seeds))
    assert not any(axis.containers for axis in figure.axes)


def test_runs_beside_each_other_have_no_comparable_times():
    found = results()
    found[0]["trained_beside"] = ["dense"]
    assert "do not compare times" in all_text(accuracy_and_cost.draw(STUDY, found))
