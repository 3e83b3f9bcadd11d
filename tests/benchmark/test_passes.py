"""Passes that PyTorch replays as CUDA graphs, and the interleaved timing of passes."""

import time

import pytest
import torch

from afmp.benchmark import measurement
from afmp.benchmark.passes import Pass, Subject, interleaved_times
from afmp.benchmark.settings import EXECUTIONS


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_each_pass_under_reduce_overhead_is_a_step_of_its_own_and_two_come_before_the_first(monkeypatch, mode):
    # A stand-in for torch.compile, which takes a minute on a CPU.
    calls, compiled = [], []

    def compile_function(function, **options):
        compiled.append(options)

        def run(*inputs):
            calls.append(torch.is_grad_enabled())
            return function(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", compile_function)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: calls.append("step"))
    model = torch.nn.Linear(4, 2)
    subject = Subject(
        model,
        lambda images, labels: model(images).sum(),
        (torch.ones(3, 4), torch.zeros(3)),
        mode=mode,
        precision="fp32",
    )
    run = Pass(subject, "reduce_overhead")
    assert compiled == [{"dynamic": False, "mode": "reduce-overhead"}]
    assert calls == ["step", mode == "train"] * 2 and model.weight.grad is None
    run()
    assert calls == ["step", mode == "train"] * 3 and len(compiled) == 1
    assert (model.weight.grad is not None) == (mode == "train")
    Pass(subject, "compiled")()
    assert compiled[1:] == [{"dynamic": False, "mode": "default"}] and calls[-2:] == [mode == "train"] * 2


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


def test_graphs_are_freed_when_nothing_compiled_is_left_to_time(monkeypatch):
    """Every function that was compiled before is compiled again afterwards, which takes a minute each."""
    steps = []

    class Run:
        def __init__(self, subject, execution):
            self.execution = execution

        def __call__(self):
            steps.append(self.execution)

        def clean(self):
            pass

    monkeypatch.setattr(measurement, "Pass", Run)
    monkeypatch.setattr(measurement, "free_graph_trees", lambda: steps.append("freed"))
    candidate = {"builder": "faulty_models:build_light", "semantics": None, "fused_attention": True}
    settings = {"resolution": 16, "batch_size": 1, "num_classes": 10, "precision": "fp32", "mode": "train"}
    outcomes = measurement.measure(
        candidates=[candidate | {"execution": execution} for execution in EXECUTIONS],
        reads=["time"],
        device="cpu",
        warmup=1,
        repeats=2,
        seconds=1.0,
        **settings,
    )
    assert [outcome["time_ms"]["n"] for outcome in outcomes] == [2] * len(EXECUTIONS)
    timed = list(dict.fromkeys(steps[steps.index("eager") :]))
    assert timed == ["eager", "compiled", "graph", "compiled_graph", "reduce_overhead", "freed"]
