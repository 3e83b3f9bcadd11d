"""Message passing, the expensive operation of a layer: score all edges, keep the best, sum gated messages at the nodes.

    s_e  = (W_q h_i + b_q)^T U (W_k h_j + b_k) + v([h_i ; h_j ; err_e ; dist_e])        of every edge e = (i <- j)
    keep = the k edges of the image with the highest scores
    h'_i = GELU( W_self h_i + b + sum over kept e = (i <- j) of sigmoid(W_gate s_e + b_gate) * (W_msg h_j + b_msg) )

The layer that calls this package has these equations line by line, as its plain path. This package computes the same
result faster.

- neighbours.py      the scaffold as tables: K slots per node
- selection.py       the k best edges per image
- weights.py         a layer's parameters, packed into one matrix
- implementation.py  which path computes a layer
- layer.py           the paths: a layer from its state and its packed weights
- all_edges/         two operations over all edges, scores and gated sums: pytorch.py, and fused.py with its kernels
- kept_edges/        the whole layer where few edges are kept: pytorch.py, and fused.py with its kernels,
                     selection.py (the k best edges, on a GPU) and packing.py (the weights of all layers at once)
- directions/        for `refined`, scores and sums with a kernel for each direction: pytorch.py, and fused.py with its
                     kernels
- launch.py          tile sizes and launch parameters of all Triton kernels
- triton_rows.py     loads and stores that the kernels share
"""
