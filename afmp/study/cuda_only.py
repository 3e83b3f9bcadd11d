"""Values of the sweep's lists `precision` and `execution` that exist on CUDA devices only, and what exists there."""

CUDA_ONLY = {"tf32": "TF32 products exist"} | dict.fromkeys(
    ("reduce_overhead", "graph", "compiled_graph"), "CUDA graphs exist"
)
