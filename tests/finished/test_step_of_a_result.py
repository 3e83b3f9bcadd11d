"""What a result says of its measured training step, which a figure of costs reads."""

import pytest
from synthetic_results import CPU, GPU, synthetic_result
from training_runs import small_config

from afmp.finished.result_contradictions import of_result

TIMES = {"median": 2.0, "q25": 1.5, "q75": 2.5, "n": 50}
STEP = {
    GPU["type"]: {"milliseconds": TIMES, "memory_mb": 80.0},
    CPU["type"]: {"milliseconds": TIMES, "memory_mb": None},
}


def contradictions(device, *, step, measure_step=True) -> list[str]:
    result = synthetic_result("dense", device=device) | ({} if step is None else {"step": step})
    found = of_result(result, small_config(measure_step=measure_step), {"dataset": {}, "model": {}})
    return [fault for fault in found if fault.startswith("step")]


@pytest.mark.parametrize("device", [GPU, CPU], ids=["gpu", "cpu"])
def test_a_measured_step_and_none_contradict_nothing(device):
    assert contradictions(device, step=STEP[device["type"]]) == []
    assert contradictions(device, step=None, measure_step=False) == []


@pytest.mark.parametrize(
    ("device", "step", "measure_step", "fault"),
    [
        (GPU, None, True, "step is missing, but measure_step is True"),
        (GPU, STEP["cuda"], False, "step is there, but measure_step is False"),
        (GPU, STEP["cpu"], True, "step: memory_mb is None on a device of type 'cuda'"),
        (CPU, STEP["cuda"], True, "step: memory_mb is 80.0 on a device of type 'cpu'"),
        (CPU, STEP["cpu"] | {"milliseconds": TIMES | {"q25": 2.1}}, True, "step: milliseconds are not in order"),
    ],
)
def test_a_lie_about_the_step_is_found(device, step, measure_step, fault):
    found = contradictions(device, step=step, measure_step=measure_step)
    assert len(found) == 1 and found[0].startswith(fault)
