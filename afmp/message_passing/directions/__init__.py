"""Scores and gated sums with a kernel for each direction, as `refined` has: `pytorch.py` for a CPU, and `fused.py`."""
