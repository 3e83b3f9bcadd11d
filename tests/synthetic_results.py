"""Synthetic results, studies, sweeps and diagnostics for tests of tables and figures."""

import numpy as np

VERSIONS = {
    "python": "3.11.2",
    "torch": "2.14.1",
    "cuda": None,
    "driver": None,
    "timm": "1.0.31",
    "numpy": "2.4.6",
    "afmp": "0.1.0",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
}
CPU = {"type": "cpu", "name": "CPU, 2 cores"}
GPU = {"type": "cuda", "name": "NVIDIA H100 80GB HBM3"}

STUDIES = [
    {
        "name": "sparsity_level",
        "section": "7.1",
        "title": "Sparsity level",
        "figure": "comparison_results_full",
        "reference": "dense",
        "members": [{"run": "dense", "label": "Dense"}]
        + [{"run": f"sparse_0.{i}", "label": f"Sparse 0.{i}"} for i in range(2, 7)],
    },
    {
        "name": "regularisation",
        "section": "7.2",
        "title": "Regularisation",
        "figure": "lambda_sparse_comparison",
        "reference": "sparse_0.3",
        "members": [
            {"run": "lambda_1e-3", "label": "λ = 1e-3"},
            {"run": "sparse_0.3", "label": "λ = 1e-4"},
            {"run": "lambda_1e-5", "label": "λ = 1e-5"},
        ],
    },
    {
        "name": "top_down_refinement",
        "section": "7.3",
        "title": "Top-down refinement",
        "figure": "comparison_topdown_vs_no",
        "reference": "sparse_0.3",
        "members": [
            {"run": "top_down", "label": "With top-down"},
            {"run": "sparse_0.3", "label": "Without top-down"},
        ],
    },
]
# Final accuracy under paper and under notebook, lambda, and tenths of a second per epoch of each run.
RUNS = {
    "dense": (29.0, 34.2, 0.0, 12.0),
    "sparse_0.2": (30.1, 34.0, 1e-4, 9.8),
    "sparse_0.3": (30.6, 34.1, 1e-4, 10.1),
    "sparse_0.4": (30.4, 34.3, 1e-4, 10.4),
    "sparse_0.5": (29.9, 33.9, 1e-4, 10.9),
    "sparse_0.6": (29.5, 34.1, 1e-4, 11.2),
    "lambda_1e-3": (29.8, 33.8, 1e-3, 10.1),
    "lambda_1e-5": (30.5, 34.2, 1e-5, 10.1),
    "top_down": (31.4, 34.1, 1e-4, 12.6),
}
# Parameters of each model of the sweep, and its milliseconds and 1/64 MB per patch.
SWEPT = {
    "afmp_small": (6119913, 8e-4, 9),
    "deit_tiny": (5543716, 9e-4, 6),
    "afmp_refined_small": (5581036, 5e-4, 14),
}
# Batch size of each resolution in a sweep that is fitted.
FITTED_SIZES = {64: 64, 128: 64, 224: 64, 448: 16, 896: 4, 1792: 1, 3584: 1}


def synthetic_result(run, *, semantics="paper", seed=0, epochs=3, device=CPU, dataset="digits") -> dict:
    """Return the content of one result file; equal arguments give equal content."""
    generator = np.random.default_rng([seed, epochs, len(semantics), *run.encode()])
    final, lambda_sparse, seconds = RUNS[run][semantics == "notebook"], *RUNS[run][2:]
    progress = 1 - np.exp(-4 * np.arange(1, epochs + 1) / max(epochs, 5))
    shift = generator.normal(0, 0.4)
    val_acc = np.clip(final * progress + shift + generator.normal(0, 0.3, epochs), 0, 100)
    best = int(np.argmax(val_acc))
    time = seconds / 10 + generator.normal(0, 0.02, epochs)
    time[0] += 3.0
    test_accuracy = val_acc[best] if semantics == "notebook" else val_acc[best] + generator.normal(0, 0.3)
    gate = 0.5 if semantics == "notebook" else 0.15
    return {
        "format_version": 1,
        "model_type": run,
        "run": run,
        "semantics": semantics,
        "seed": seed,
        "best_val_accuracy": float(val_acc[best]),
        "test_accuracy": float(test_accuracy),
        "best_epoch": best + 1,
        "peak_memory_mb": 412.5 if device["type"] == "cuda" else None,
        "training_history": {
            "train_loss": (4.6 - 1.9 * progress + generator.normal(0, 0.02, epochs)).tolist(),
            "train_acc": (val_acc + 1.5).clip(0, 100).tolist(),
            "val_acc": val_acc.tolist(),
            "sparsity_loss": (lambda_sparse * gate * (1 - 0.3 * progress + 0.01 * shift)).tolist(),
            "time": time.tolist(),
        },
        "validation_set": "test" if semantics == "notebook" else "train_holdout",
        "config": {
            "dataset": {"source": dataset},
            "model": {"num_layers": 4},
            "training": {"epochs": epochs},
        },
        "num_parameters": 435688 if run == "top_down" else 386152,
        "scaffold_hash": "5" * 64,
        "dataset": {
            "name": dataset,
            "hash": "d" * 64,
            "num_classes": 10,
            "num_train": 1300,
            "num_val": 357 if semantics == "notebook" else 140,
            "num_test": 357,
        },
        "device": device,
        "versions": VERSIONS,
        "trained_by": [{"from_epoch": 1, "device": device, "versions": VERSIONS}],
        "trained_together": [seed],
        "trained_beside": [],
        "message_passing": "triton" if device["type"] == "cuda" else "pytorch",
        "wall_time_s": float(time.sum() + 5),
        "finished_at": "2026-01-02T03:04:05+00:00",
    }


def synthetic_results(*, semantics="paper", seeds=range(5), epochs=3, **options) -> list[dict]:
    """Return the results of every run of STUDIES under one semantics, for every seed."""
    return [
        synthetic_result(run, semantics=semantics, seed=seed, epochs=epochs, **options)
        for run in RUNS
        for seed in seeds
    ]


def synthetic_point(
    model,
    resolution,
    *,
    status="ok",
    kind="cuda_allocator",
    batch_size=64,
    precision="fp32",
    mode="train",
    execution="eager",
    attention="fused",
) -> dict:
    """Return one point of a sweep at patch size 16. A point that is not ok has no numbers."""
    num_patches = (resolution // 16) ** 2
    afmp, (num_parameters, per_patch, activations_per_patch) = model != "deit_tiny", SWEPT[model]
    faster = {"fp32": 1.0, "tf32": 0.8, "bf16": 0.5, "fp16": 0.5}[precision] * (0.3 if mode == "inference" else 1.0)
    faster *= {"eager": 1.0, "compiled": 0.8, "reduce_overhead": 0.75, "graph": 0.7, "compiled_graph": 0.6}[execution]
    faster *= 2.0 if attention == "plain" and not afmp else 1.0
    per_image = 0.03 + per_patch * num_patches + (0 if afmp else 6e-6 * num_patches**2)
    median = faster * batch_size * per_image
    activations = batch_size * activations_per_patch * (1 if afmp else 1 + num_patches / 300) * num_patches / 64
    weights = 24.0
    gradients = weights if mode == "train" else 0.0
    inputs = batch_size * 3 * resolution**2 * 4 / 2**20
    peak = activations + weights + gradients + inputs
    generator = np.random.default_rng(num_patches)
    every = (median * (1 + 0.02 * generator.standard_normal(10))).tolist()
    time_ms = {
        "median": median,
        "q25": 0.97 * median,
        "q75": 1.05 * median,
        "min": 0.9 * median,
        "max": 1.3 * median,
        "n": len(every),
        "all": every,
    }
    memory = {
        "kind": kind,
        "peak_mb": peak,
        "reserved_mb": 1.2 * peak if kind == "cuda_allocator" else None,
        "weights_mb": weights,
        "gradients_mb": gradients,
        "inputs_mb": inputs,
        "activations_mb": activations,
    }
    ok = status == "ok"
    return {
        "model": model,
        "resolution": resolution,
        "num_patches": num_patches,
        "batch_size": batch_size,
        "precision": precision,
        "mode": mode,
        "attention": None if afmp else attention,
        "execution": execution,
        "implementation": "pytorch" if afmp and ok else None,
        "status": status,
        "error": {"ok": None, "oom": "CUDA out of memory.", "error": "RuntimeError: cuDNN not found"}[status],
        "num_parameters": num_parameters if ok else None,
        "interleaved": ok,
        "time_ms": time_ms if ok else None,
        "memory": memory if ok else None,
    }


def synthetic_scalability(points, *, semantics="paper", device=GPU) -> dict:
    """Return the content of a scalability file with `points`."""
    protocol = {"warmup": 5, "repeats": 10, "seconds": 1.0, "num_classes": 100, "cpu_threads": 1, "skipped": []}
    return {
        "format_version": 2,
        "semantics": semantics,
        "device": device,
        "versions": VERSIONS,
        "protocol": protocol,
        "points": points,
    }


def synthetic_sweep_of_times(time_of, *, fixed=0.0, noise=0.02, model="afmp_small") -> dict:
    """Return a sweep of one model. A pass lasts `fixed` ms, and time_of(N) ms more per image of N patches."""
    points = []
    for size, batch in FITTED_SIZES.items():
        point = synthetic_point(model, size, batch_size=batch)
        median = fixed + time_of(point["num_patches"]) * batch
        every = median * (1 + noise * np.random.default_rng(size).standard_normal(31))
        point["time_ms"] |= {"median": float(np.median(every)), "all": every.tolist(), "n": 31}
        points.append(point)
    return synthetic_scalability(points)


def synthetic_diagnostics(*, semantics="paper", side=4, patch_size=8, num_layers=4, epochs=(10, 100)) -> dict:
    """Return diagnostics of side x side patches with edges to right and lower neighbours; under paper also back."""
    generator = np.random.default_rng(7)
    nodes = np.arange(side * side).reshape(side, side)
    pairs = [(nodes[:, :-1], nodes[:, 1:]), (nodes[:-1], nodes[1:]), (nodes[:-1, :-1], nodes[1:, 1:])]
    low, high = (np.concatenate([np.ravel(pair[i]) for pair in pairs]) for i in (0, 1))
    receivers, senders = np.concatenate([low, high]), np.concatenate([high, low])
    if semantics == "notebook":
        receivers, senders = low, high
    content = {}
    for epoch in epochs:
        gates = generator.beta(3, 3, (num_layers, receivers.size))
        if semantics == "paper":
            kept = generator.random(gates.shape) < 0.4
            gates, pruned = gates * kept, 100 * (~kept).sum(1) / max(1, receivers.size)
        else:
            pruned = 100 * (gates < 0.5).sum(1) / max(1, receivers.size)
        content[str(epoch)] = {"mean_gate": gates.tolist(), "pruned_percent": pruned.tolist()}
    centres = (np.arange(side) + 0.5) * patch_size
    return {
        "format_version": 1,
        "run": "sparse_0.3",
        "semantics": semantics,
        "seed": 0,
        "image_index": 0,
        "patch_size": patch_size,
        "positions": np.stack(np.meshgrid(centres, centres, indexing="ij"), -1).reshape(-1, 2).tolist(),
        "edge_index": [receivers.tolist(), senders.tolist()],
        "epochs": content,
    }
