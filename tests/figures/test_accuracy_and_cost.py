"""Figure accuracy_and_cost: where marks are, and what is not measured or not comparable."""

import pytest
from drawn_figures import all_text, by_gid, panel
from synthetic_results import CPU, GPU, STUDIES, synthetic_result

from afmp.analysis.metrics import memory_per_image, milliseconds_per_image
from afmp.figures import accuracy_and_cost

STUDY = STUDIES[2]


def results(device=GPU, *, seeds=3):
    found = [
        synthetic_result(member["run"], seed=seed, device=device)
        for member in STUDY["members"]
        for seed in range(seeds)
    ]
    for result in found:
        result["config"]["training"]["batch_size"] = 64
        times = {"median": 3.0 + result["seed"], "q25": 2.0, "q75": 9.0, "n": 50}
        result["step"] = {"milliseconds": times, "memory_mb": 312.5 if device is GPU else None}
    return found


def test_marks_are_at_the_costs_of_each_run():
    found = results()
    figure = accuracy_and_cost.draw(STUDY, found)
    for member in STUDY["members"]:
        own = [result for result in found if result["run"] == member["run"]]
        accuracy = sum(result["test_accuracy"] for result in own) / 3
        costs = {
            "Parameters": own[0]["num_parameters"] / 1e6,
            "Training time": 4.0 / 64,
            "Memory": 312.5 / 64,
        }
        for title, cost in costs.items():
            mark = by_gid(panel(figure, title), f"{title}: {member['label']}")
            assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx((cost, accuracy))


def test_a_step_of_fewer_images_than_a_batch_counts_its_own_images():
    (found,) = results(seeds=1)[:1]
    found["config"]["training"]["batch_size"] = 4000  # of 1,300 training images
    assert milliseconds_per_image([found]) == [pytest.approx(3.0 / 1300)]
    assert memory_per_image([found]) == [pytest.approx(312.5 / 1300)]


@pytest.mark.parametrize("measured", [True, False])
def test_a_cpu_has_no_panels_of_time_and_memory_and_the_figure_says_why(measured):
    found = results(CPU)
    for result in found if not measured else ():
        del result["step"]
    figure = accuracy_and_cost.draw(STUDY, found)
    assert [axis.get_title() for axis in figure.axes if axis.get_title()] == ["Parameters"]
    text = " ".join(all_text(figure).split())
    why = "jobs may have shared the CPU" if measured else "it was not measured"
    assert f"Training time is not shown: {why}. Memory is not shown: it was not measured." in text
    assert "Time is the median" not in text and "MB" not in text


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_have_no_interval(seeds):
    figure = accuracy_and_cost.draw(STUDY, results(seeds=seeds))
    assert not any(axis.containers for axis in figure.axes)


def test_a_run_whose_step_was_not_measured_is_named():
    found = results()
    for result in found:
        if result["run"] == "sparse_0.3":
            del result["step"]
    text = all_text(accuracy_and_cost.draw(STUDY, found))
    label = next(member["label"] for member in STUDY["members"] if member["run"] == "sparse_0.3")
    assert f"Training time was not measured of: {label}." in text and f"Memory was not measured of: {label}." in text
