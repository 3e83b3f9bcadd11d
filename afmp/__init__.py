"""AFMP: adaptive message passing between image patches, with two semantics, `paper` and `notebook`."""

__version__ = "0.2.0"
__all__ = ["AFMP", "afmp_small", "afmp_tiny", "load_weights"]

# Imported lazily (PEP 562): tables and figures need neither torch nor the model's code.
_MODULES = {"AFMP": "afmp", "afmp_small": "sizes", "afmp_tiny": "sizes", "load_weights": "weights"}


def __getattr__(name: str):
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"afmp.model.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'afmp' has no attribute {name!r}")
