"""CUDA graphs: work on a GPU that is captured once and replayed."""

from collections.abc import Callable

import torch


def run_before_capture(function: Callable[[], object], stream: torch.cuda.Stream) -> None:
    """Run `function` once outside the capture, on a separate stream, as torch.cuda.graph requires."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)


def capture(
    function: Callable[[], object], stream: torch.cuda.Stream, *, pool: tuple[int, int] | None = None
) -> tuple[torch.cuda.CUDAGraph, object]:
    """Capture `function` as a CUDA graph. Return the graph and the function's result, which every replay overwrites.

    pool: the memory pool that it shares with other graphs, none of which is replayed at the same time.

    Graphs that are replayed at the same time must be captured on different streams, because cuBLAS has one workspace
    per stream. PyTorch's default is one stream for all.
    """
    graph = torch.cuda.CUDAGraph()
    # thread_local: another thread may allocate memory during the capture.
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        result = function()
    return graph, result
