"""Interleaved timing of passes."""

import time

import torch

from afmp.benchmark.passes import interleaved_times


def test_passes_are_timed_in_turn_and_a_failed_one_leaves_the_others():
    calls = []

    class Run:
        def __init__(self, name, fails_at=None):
            self.name, self.fails_at = name, fails_at

        def __call__(self):
            calls.append(self.name)
            if calls.count(self.name) == self.fails_at:
                raise RuntimeError("CUDA out of memory")

        def clean(self):
            calls.append(f"clean {self.name}")

    runs = {"a": Run("a"), "b": Run("b", fails_at=3)}
    times, failures = interleaved_times(runs, device=torch.device("cpu"), warmup=1, repeats=3, seconds=60)
    a, b = ["a", "clean a"], ["b", "clean b"]
    assert calls == [*a, *b, *a, *b, *a, "b", *a]
    assert len(times["a"]) == 3 and list(times) == ["a"]
    assert failures["b"]["status"] == "oom"


def test_slow_passes_are_repeated_less_often():
    class Lasting:
        def __init__(self, seconds):
            self.seconds = seconds

        def __call__(self):
            time.sleep(self.seconds)

        def clean(self):
            pass

    runs = {"slow": Lasting(0.1), "fast": Lasting(0.0)}
    times, _ = interleaved_times(runs, device=torch.device("cpu"), warmup=2, repeats=99, seconds=0.3)
    assert len(times["slow"]) == 5  # it does not wait until the fast one has used its seconds
    assert len(times["fast"]) == 99
