"""The comparison of a study's runs: what stands in its lines and notes."""

import numpy as np
import pytest
from synthetic_results import CPU, GPU, STUDIES, synthetic_result, synthetic_results

from afmp.analysis.comparison import comparison_text

STUDY = STUDIES[2]  # top_down and its reference sparse_0.3
RUNS = [member["run"] for member in STUDY["members"]]


def compared(results, *, study=STUDY, reference="sparse_0.3", semantics=("paper",)) -> tuple[dict, list[str]]:
    """Return the line of each run, or the lines of one with several, and the notes below the table."""
    _, head, *blocks, notes = comparison_text(study, results, reference=reference, semantics=semantics).split("\n\n")
    lines = [*head.split("\n")[1:], *(line for block in blocks for line in block.split("\n"))]
    return {run: [line for line in lines if f"({run})" in line] for run in RUNS}, notes.split("\n")


def measured(device=GPU, *, seeds=3, changed=None) -> list[dict]:
    """Results whose steps take 3, 4, 11 ms under the reference and half as long under the other run."""
    found = [synthetic_result(run, seed=seed, device=device) for run in RUNS for seed in range(seeds)]
    for result in found:
        scale = 1 if result["run"] == "sparse_0.3" else 0.5
        result["config"]["training"]["batch_size"] = 64
        times = {"median": scale * (3.0, 4.0, 11.0)[result["seed"]], "q25": 0.1, "q75": 99.0, "n": 50}
        result["step"] = {"milliseconds": times, "memory_mb": 312.5 * scale if device is GPU else None}
        if changed and result["run"] == "top_down":
            changed(result)
    return found


def test_cost_is_the_median_over_seeds_and_a_ratio_above_1_is_less():
    lines, notes = compared(measured())
    assert lines["sparse_0.3"][0].split()[-4:] == ["4.00", "1.00", "312.5", "1.00"]  # as the record has it
    assert lines["top_down"][0].split()[-4:] == ["2.00", "2.00", "156.2", "2.00"]
    assert any("trains on 64 images; the median over seeds of each seed's median of 50 steps" in note for note in notes)


def test_the_ratio_of_other_batches_is_per_image():
    lines, notes = compared(measured(changed=lambda result: result["config"]["training"].update(batch_size=32)))
    assert lines["top_down"][0].split()[-4:] == ["2.00", "1.00", "156.2", "1.00"]
    assert any("trains on 32 to 64 images" in note for note in notes)


def test_a_run_that_was_measured_on_another_device_has_no_ratio():
    elsewhere = [{"from_epoch": 1, "device": GPU | {"name": "NVIDIA A100"}, "versions": {"git_commit": None}}]
    lines, notes = compared(measured(changed=lambda result: result.update(trained_by=elsewhere)))
    assert lines["top_down"][0].split()[-2:] == ["2.00", "156.2"]
    assert "ratio: reference / run, per image; above 1, the run takes less. " in notes[-1]
    assert notes[-1].endswith("Costs on different devices have no ratio.")
    assert any("NVIDIA A100" in note and GPU["name"] in note and "unknown" in note for note in notes)


def test_without_a_gpu_memory_has_no_column():
    lines, notes = compared(measured(CPU))
    assert lines["top_down"][0].split()[-2:] == ["2.00", "2.00"]
    assert "peak MB" not in "\n".join(notes) and "Jobs may have shared the CPU" in notes[-1]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_run_of_which_a_seed_was_not_measured_says_so(seeds):
    found = measured(changed=lambda result: result["seed"] < seeds and result.pop("step"))
    lines, _ = compared(found)
    assert lines["top_down"][0].count("not measured") == 2 and lines["sparse_0.3"][0].split()[-1] == "1.00"


def test_two_seeds_are_shown_without_an_interval():
    found = measured(seeds=2)
    (line,), notes = compared(found)[0]["top_down"], compared(found)[1]
    accuracies = {run: [r["test_accuracy"] for r in found if r["run"] == run] for run in RUNS}
    differences = np.subtract(accuracies["top_down"], accuracies["sparse_0.3"])
    shown = [
        *(f"{value:.2f}" for value in (np.mean(accuracies["top_down"]), *accuracies["top_down"])),
        *(f"{value:+.2f}" for value in (differences.mean(), *differences)),
    ]
    numbers = line.partition("(top_down)")[2].replace("(", " ").replace(")", " ").replace(",", " ").split()
    assert [number for number in numbers if number in shown] == shown
    assert "[" not in line and notes[0].endswith("mean (value of each random seed), no interval.")
    assert "t test" not in notes[1]


def test_one_seed_is_shown_as_it_is():
    found = [synthetic_result(run) for run in RUNS]
    lines, notes = compared(found)
    accuracy, reference = (next(r["test_accuracy"] for r in found if r["run"] == run) for run in RUNS)
    assert lines["top_down"][0].split()[-2:] == [f"{accuracy:.2f}", f"{accuracy - reference:+.2f}"]
    assert notes[0].endswith("one random seed, no interval.")


def test_a_difference_that_is_equal_in_all_pairs_has_no_p():
    found = [synthetic_result(run, seed=seed) | {"test_accuracy": 30.0 + seed} for run in RUNS for seed in range(3)]
    lines, notes = compared(found)
    assert lines["top_down"][0].endswith("+0.00 [ +0.00,  +0.00]  none")
    assert "p is none where the difference is equal for all seeds." in notes[1]


def test_a_model_of_timm_is_compared_with_the_reference_of_each_semantics():
    rival = STUDY | {"members": [STUDY["members"][0] | {"semantics": "timm"}, STUDY["members"][1]]}
    found = [synthetic_result("top_down", seed=seed) | {"semantics": "timm"} for seed in range(3)]
    for semantics, shift in (("paper", 2.0), ("refined", 5.0)):
        found += [
            own | {"run": "sparse_0.3", "semantics": semantics, "test_accuracy": own["test_accuracy"] - shift}
            for own in found[:3]
        ]
    lines, _ = compared(found, study=rival, semantics=("paper", "refined"))
    assert all(" timm " in line for line in lines["top_down"])
    assert [line.split("]")[1].split("[")[0].strip() for line in lines["top_down"]] == ["+2.00", "+5.00"]


def test_columns_are_aligned_and_a_label_of_invisible_letters_moves_none():
    joined = STUDY | {"members": [{"run": "top_down", "label": "می\u200cشود e\u0301"}, STUDY["members"][1]]}
    lines, _ = compared(synthetic_results(seeds=range(3)), study=joined)
    assert len({line.index("[") for (line,) in lines.values()}) == 1
    assert all(line.isprintable() for (line,) in lines.values())


def test_names_from_elsewhere_show_their_codes():
    device = GPU | {"name": "GPU\x1b[2J"}
    _, notes = compared(measured(device=device))
    assert r"GPU\x1b[2J" in "\n".join(notes) and all(note.isprintable() for note in notes)
