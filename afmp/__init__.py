"""AFMP: adaptive message passing between image patches, with three semantics, `paper`, `notebook` and `refined`."""

__version__ = "0.2.0"
__all__ = ["AFMP", "afmp_refined_small", "afmp_refined_tiny", "afmp_small", "afmp_tiny", "load", "load_weights", "save"]

# Imported lazily (PEP 562): tables and figures need neither torch nor the model's code.
_SIZES = ("afmp_refined_small", "afmp_refined_tiny", "afmp_small", "afmp_tiny")
_MODULES = {"AFMP": "afmp", "load": "trained", "load_weights": "weights", "save": "saving"} | dict.fromkeys(
    _SIZES, "sizes"
)


def __getattr__(name: str):
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"afmp.model.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'afmp' has no attribute {name!r}")
