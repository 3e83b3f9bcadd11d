"""The kernels with directions compile for a GPU, which none is needed for: the interpreter accepts more than Triton."""

import os
import subprocess
import sys

import pytest
from conftest import PROJECT

pytest.importorskip("triton", reason="Triton exists for Linux only")

# Compiles each kernel for compute capability 9.0. Sizes that are 1 are constants, as Triton makes them in a launch.
COMPILE = """
import inspect, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from afmp.message_passing.directions import score_kernels, sum_kernels

nodes, ones = sys.argv[1], sys.argv[2].split(",")
types = dict.fromkeys(("mapped", "d_mapped", "nodes", "total", "d_total", "d_nodes"), nodes)
types |= dict.fromkeys(("nbr", "rev", "offset_index", "direction_slots", "direction_start"), "*i64")
types |= {"keep": "*i1", "valid": "*i1"}
sizes = "num_nodes rows_per_model num_offsets images images_per_model channels image_chunks num_scores".split()
types |= dict.fromkeys(sizes, "i32")
constants = {"RANK": 16, "SCALE": 0.25, "BLOCKS": 1, "K": 8, "BLOCK_K": 8, "BLOCK_E": 16, "BLOCK_N": 2, "UNROLL": 2}
constants |= {"PREDICTS": True, "PER_IMAGE": nodes == "*bf16"} | {name: 1 for name in ones}
found = []
for module, block in ((score_kernels, 16), (sum_kernels, 128)):
    for name, kernel in vars(module).items():
        if name.endswith("_kernel"):
            names = inspect.signature(kernel.fn).parameters
            fixed = {n: v for n, v in (constants | {"BLOCK_D": block}).items() if n in names}
            kinds = {n: "constexpr" if n in fixed else types.get(n, "*fp32") for n in names}
            source = ASTSource(fn=kernel, signature=kinds, constexprs=fixed)
            triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})
            found.append(name)
print(*found)
"""


@pytest.mark.parametrize(("nodes", "ones"), [("*bf16", ""), ("*fp32", "images,images_per_model,num_offsets")])
def test_the_kernels_compile_for_a_gpu(nodes, ones, tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", COMPILE, nodes, ones]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    scores = ["score_kernel", "score_nodes_backward_kernel", "score_weights_backward_kernel"]
    sums = ["sum_kernel", "sum_nodes_backward_kernel", "sum_edges_backward_kernel"]
    assert done.stdout.split() == scores + sums
