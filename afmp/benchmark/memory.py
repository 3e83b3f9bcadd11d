"""Peak memory of one pass, and its parts: weights, gradients, inputs and activations.

It is never read under a CUDA graph that was made by hand, which has a memory pool of its own. PyTorch's own graphs
(reduce-overhead) belong to the compiled model, and AFMP's own to AFMP. So do their pools. 1 MB is
1,048,576 bytes, as in the original notebook.
"""

import gc
import resource
import sys

import torch
from torch.nn.functional import cross_entropy

from afmp.benchmark.passes import REDUCE_OVERHEAD, Subject
from afmp.model.replay import SIGHTINGS

MEGABYTE = 1024**2


class MemoryBaseline:
    """The memory allocated before a model is built; `read` returns what a pass of the model adds to it.

    On a GPU the allocator counts tensors exactly, so other models may be alive. On a CPU the peak resident set never
    shrinks, so one process measures one model.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            # Matrix products of each model then allocate their workspaces again, and these count for each model.
            torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.empty_cache()
            self.allocated, self.reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        else:
            self.allocated, self.reserved = _peak_resident_bytes(), 0

    def read(self, subject: Subject, *, compile_mode: str | None, shared_inputs: bool) -> dict:
        """Return the memory of a pass in MB, in the form of schemas/scalability.schema.yaml.

        compile_mode: as in `Subject.forward`. All models compiled with REDUCE_OVERHEAD share one pool, so free it
        afterwards (`passes.free_graph_trees`).
        shared_inputs: images and labels were allocated before this baseline, so their size is added.
        """
        device = self.device
        subject.run(compile_mode=compile_mode)
        subject.clear_gradients()
        subject.forget_graphs()
        self._reset_peak()
        for _ in range(SIGHTINGS if subject.has_own_graphs else 1):
            subject.run(compile_mode=compile_mode)
            subject.clear_gradients()
        # CUDA graphs were recorded in these passes. Replays allocate nothing, so only here the allocator counted the
        # tensors of the graphs.
        has_own_graphs = subject.has_own_graphs
        has_graphs = compile_mode == REDUCE_OVERHEAD or has_own_graphs
        recorded = torch.cuda.max_memory_allocated(device) if has_graphs else 0
        self._reset_peak()
        idle = torch.cuda.memory_allocated(device) if has_own_graphs else 0
        result = subject.forward(compile_mode=compile_mode)
        if device.type == "mps":  # Metal's driver records no peak; memory is highest while all activations are alive
            driver_peak = torch.mps.driver_allocated_memory()
        if subject.trains:
            result.backward()
        inputs = _bytes(subject.inputs)
        extra = inputs if shared_inputs else 0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            highest = torch.cuda.max_memory_allocated(device)
            reserved = torch.cuda.max_memory_reserved(device)
            # The model keeps the memory of its graphs between passes, so what a pass allocates besides comes on top.
            highest = min(recorded + highest - idle, reserved) if has_own_graphs else max(highest, recorded)
            kind, peak = "cuda_allocator", highest - self.allocated + extra
            reserved = (reserved - self.reserved + extra) / MEGABYTE
        elif device.type == "mps":
            kind, peak, reserved = "mps_driver", driver_peak, None
        else:
            kind, peak, reserved = "resident_set_growth", _peak_resident_bytes() - self.allocated, None
        weights = _bytes([*subject.model.parameters(), *subject.model.buffers()])
        gradients = _bytes(p.grad for p in subject.model.parameters() if p.grad is not None)
        del result
        subject.clear_gradients()
        return {
            "kind": kind,
            "peak_mb": peak / MEGABYTE,
            "reserved_mb": reserved,
            "weights_mb": weights / MEGABYTE,
            "gradients_mb": gradients / MEGABYTE,
            "inputs_mb": inputs / MEGABYTE,
            # A resident set need not grow for a small model, so the difference can be negative.
            "activations_mb": max(0, peak - weights - gradients - inputs) / MEGABYTE,
        }

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def warm_up_libraries(device: torch.device) -> None:
    """Run small layers, so that loaded code and started threads do not count as memory of the first model.

    On the CPU they would add about 35 MB.
    """
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 64, kernel_size=16, stride=16),
        torch.nn.Flatten(2),
        torch.nn.LayerNorm(4),
        torch.nn.Linear(4, 8),
        torch.nn.GELU(),
    ).to(device)
    logits = layers(torch.randn(2, 3, 32, 32, device=device)).mean(2)
    cross_entropy(logits, torch.arange(2, device=device)).backward()


def _bytes(tensors) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _peak_resident_bytes() -> int:
    """Return the peak resident set of this process. The kernel starts a new count for a forked process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
