"""A whole layer that keeps few edges per image: in PyTorch (`pytorch.py`), and fused with Triton (`fused.py`)."""
