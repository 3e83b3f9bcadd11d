"""What one pass needs of memory: peak, and in it weights, gradients, inputs and activations.

Never read under a CUDA graph, whose memory lies in a pool of its own.

MB here are 1,048,576 bytes, as in the seed.
"""

import gc
import resource
import sys

import torch
from torch.nn.functional import cross_entropy

from afmp.benchmark.passes import Subject

MEGABYTE = 1024**2


class MemoryBaseline:
    """What is allocated before a model is built; `read` gives what the model's pass adds to it.

    On a GPU the allocator counts tensors exactly, so other models may rest beside; a process's resident set never
    shrinks, so on a CPU a process measures one model.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            # Each model's own matrix products ask for their workspaces anew, and each has them counted.
            torch._C._cuda_clearCublasWorkspaces()
            torch.cuda.empty_cache()
            self.allocated, self.reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        else:
            self.allocated, self.reserved = _peak_resident_bytes(), 0

    def read(self, subject: Subject, *, compiled: bool, shared_inputs: bool) -> dict:
        """Memory of a pass, as a point of schemas/scalability.schema.yaml has it, in MB.

        `shared_inputs`: the images and labels were allocated before this baseline and are added.
        """
        device = self.device
        for _ in range(2):
            subject.run(compiled=compiled)
            subject.clear_gradients()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        result = subject.forward(compiled=compiled)
        if device.type == "mps":  # Metal's driver keeps no peak; it is highest with all activations alive
            driver_peak = torch.mps.driver_allocated_memory()
        if subject.trains:
            result.backward()
        inputs = _bytes(subject.inputs)
        extra = inputs if shared_inputs else 0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            kind, peak = "cuda_allocator", torch.cuda.max_memory_allocated(device) - self.allocated + extra
            reserved = (torch.cuda.max_memory_reserved(device) - self.reserved + extra) / MEGABYTE
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
            # Of a resident set, which need not grow for a small model, the rest can be less than nothing.
            "activations_mb": max(0, peak - weights - gradients - inputs) / MEGABYTE,
        }


def touch_libraries(device: torch.device) -> None:
    """Run small layers, so that code paged in and threads started do not count as memory of the first model.

    That would be about 35 MB on the CPU.
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
    """The largest resident set this process ever had. The kernel counts it anew for a forked process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere
