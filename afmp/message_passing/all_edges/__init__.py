"""Scores and gated sums over all edges: in PyTorch (`pytorch.py`), and fused with Triton (`fused.py`)."""
