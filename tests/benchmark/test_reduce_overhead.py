"""torch.compile with mode="reduce-overhead" on a GPU: its memory is that of the pass, and its graphs are freed."""

import gc

import pytest
import torch
from torch._dynamo.utils import counters

from afmp.benchmark.candidates import MODEL_BUILDERS
from afmp.benchmark.measurement import measure

MODELS = [("afmp_small", "paper"), ("afmp_small", "notebook"), ("afmp_refined_small", None), ("deit_tiny", None)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.long
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_memory_includes_the_graphs_and_no_model_counts_those_of_another(mode):
    candidates = [
        {"builder": MODEL_BUILDERS[model], "semantics": semantics, "fused_attention": True, "execution": execution}
        for model, semantics in MODELS
        for execution in ("compiled", "reduce_overhead")
    ]
    counters.clear()
    outcomes = measure(
        candidates=candidates,
        reads=["memory", "time"],
        resolution=224,
        batch_size=16,
        num_classes=10,
        precision="bf16",
        mode=mode,
        device="cuda",
        warmup=2,
        repeats=5,
        seconds=1.0,
    )
    assert [outcome["status"] for outcome in outcomes] == ["ok"] * len(candidates)
    assert not counters["inductor"]["cudagraph_skips"]  # PyTorch replays graphs for each model
    for compiled, reduced in zip(outcomes[::2], outcomes[1::2], strict=True):
        peaks = [outcome["memory"]["peak_mb"] for outcome in (compiled, reduced)]
        inputs = compiled["memory"]["inputs_mb"]
        # The graph has its own copy of the images. Without its pool, activations would be missing.
        assert 0.9 * peaks[0] < peaks[1] < 1.2 * peaks[0] + inputs
        assert reduced["memory"]["reserved_mb"] >= peaks[1]
    gc.collect()
    torch.cuda.empty_cache()
    assert (
        torch.cuda.memory_reserved() < 150 * 2**20
    )  # workspaces of libraries; the graphs of DeiT-Tiny alone have more
