"""Scores and gated sums over all edges: in PyTorch, and fused by Triton."""
