"""Work on a GPU captured once as a CUDA graph, to be replayed."""

from collections.abc import Callable

import torch


def run_before_capture(function: Callable[[], object], stream: torch.cuda.Stream) -> None:
    """Warm up outside the capture, on a stream of its own, as torch.cuda.graph asks for."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function()
    torch.cuda.current_stream().wait_stream(stream)


def capture(function: Callable[[], object], stream: torch.cuda.Stream) -> tuple[torch.cuda.CUDAGraph, object]:
    """`function` as a CUDA graph, and what it returned: the tensors that every replay fills anew.

    cuBLAS has one workspace a stream, so graphs that are replayed at the same time need to be captured on different
    ones: PyTorch's default is one for all.
    """
    graph = torch.cuda.CUDAGraph()
    # Another thread may allocate meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        result = function()
    return graph, result
