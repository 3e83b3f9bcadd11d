"""What a result says of its memory and of its company on a GPU, which a figure of costs reads."""

import pytest
from synthetic_results import CPU, GPU, synthetic_result
from training_runs import small_config

from afmp.finished.result_contradictions import of_result


def contradictions(config, device, **changed) -> list[str]:
    result = synthetic_result("dense", device=device) | {"dataset_memory_mb": 100.0 if device is GPU else None}
    found = of_result(result | changed, config, {"dataset": {}, "model": {}})
    return [fault for fault in found if "memory" in fault or "train_alone says" in fault]


def test_a_result_of_a_gpu_or_a_cpu_contradicts_nothing():
    for alone in (False, True):
        config = small_config(train_alone=alone)
        assert contradictions(config, GPU) == contradictions(config, CPU) == []


@pytest.mark.parametrize(
    ("device", "changed", "fault"),
    [
        (GPU, {"trained_together": [0, 1]}, "trained_together is [0, 1], train_alone says [0]"),
        (GPU, {"trained_beside": ["two"]}, "trained_beside is ['two'], train_alone says []"),
        (GPU, {"dataset_memory_mb": None}, "dataset_memory_mb is None on a device of type 'cuda'"),
        (GPU, {"dataset_memory_mb": 0}, "dataset_memory_mb is 0, but peak_memory_mb"),
        (GPU, {"dataset_memory_mb": 500.0}, "dataset_memory_mb is 500.0, but peak_memory_mb"),
        (CPU, {"dataset_memory_mb": 5.0}, "dataset_memory_mb is 5.0 on a device of type 'cpu'"),
    ],
)
def test_a_lie_about_memory_or_company_is_found(device, changed, fault):
    found = contradictions(small_config(train_alone=True), device, **changed)
    assert len(found) == 1 and found[0].startswith(fault)
