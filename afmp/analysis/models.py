"""The models that the sweep compares: their names in files and in text, and what each can vary."""

MODEL_NAMES = {"afmp_small": "AFMP-Small", "deit_tiny": "DeiT-Tiny", "afmp_refined_small": "AFMP-refined-Small"}
MODELS = tuple(MODEL_NAMES)
AFMP_MODELS = ("afmp_small", "afmp_refined_small")  # DeiT-Tiny is compared with each
MODELS_WITH_ATTENTION = ("deit_tiny",)
# Measured under each semantics of a study. The points of the others are the same in the sweep of each semantics.
MODELS_WITH_SEMANTICS = ("afmp_small",)
