"""A whole layer that keeps few edges per image: in PyTorch, and fused by Triton."""
