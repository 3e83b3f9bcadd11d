"""Candidates: what is measured at one size, in one precision and mode."""

from afmp.analysis.models import MODELS, MODELS_WITH_ATTENTION, MODELS_WITH_SEMANTICS
from afmp.benchmark.settings import PassSettings

# Names of functions and not the functions: only the process that measures imports them, and with them torch.
MODEL_BUILDERS = {model: f"afmp.benchmark.models:build_{model}" for model in MODELS}


def candidates_of(settings: PassSettings) -> list[dict]:
    """Return {model, attention, execution, semantics} of each candidate; None where a model has no choice."""
    return [
        {"model": model, "attention": attention, "execution": execution, "semantics": semantics}
        for model in settings.models
        for semantics in (settings.semantics if model in MODELS_WITH_SEMANTICS else [None])
        for attention in (settings.attention if model in MODELS_WITH_ATTENTION else [None])
        for execution in settings.execution
    ]


def measured_candidate(candidate: dict) -> dict:
    """Return a candidate in the form that `measurement.measure` accepts."""
    return {
        "builder": MODEL_BUILDERS[candidate["model"]],
        "semantics": candidate["semantics"],
        "fused_attention": candidate["attention"] != "plain",
        "execution": candidate["execution"],
    }


def describe(point: dict) -> str:
    """Return what a point measured, in a few words."""
    attention = f" {point['attention']} attention" if point["attention"] else ""
    words = " ".join(point[key] for key in ("precision", "mode", "execution"))
    return f"{point['model']} at {point['resolution']} px, {words}{attention}"
