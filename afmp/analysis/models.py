"""The models that the sweep compares: their names in files, and in text."""

MODEL_NAMES = {"afmp_small": "AFMP-Small", "deit_tiny": "DeiT-Tiny"}
MODELS = tuple(MODEL_NAMES)
