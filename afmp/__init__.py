"""AFMP: adaptive message passing between image patches, with two semantics, `paper` and `notebook`."""

__version__ = "0.2.0"
__all__ = ["AFMP", "afmp_small", "afmp_tiny"]


def __getattr__(name: str):
    # Imported lazily (PEP 562): tables and figures need neither torch nor the model's code.
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("afmp.model.afmp" if name == "AFMP" else "afmp.model.sizes"), name)
    raise AttributeError(f"module 'afmp' has no attribute {name!r}")
