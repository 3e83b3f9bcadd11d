"""The table of parameter counts and its caption."""

import pandas

from afmp.analysis import wording
from afmp.analysis.models import AFMP_MODELS, MODEL_NAMES


def parameters_table(parameters: dict) -> pandas.DataFrame:
    """Return the content of a parameters file as a table with a row per model."""
    columns = ["model", "description", "resolution", "num_classes", "num_parameters"]
    return pandas.DataFrame(parameters["models"]).assign(num_classes=parameters["num_classes"])[columns]


def parameters_caption(parameters: dict) -> str:
    """Return the counts, and the ratios of the models of the sweep, in reStructuredText."""
    counts = {model["model"]: model["num_parameters"] for model in parameters["models"]}
    listed = "; ".join(f"{model['description']}: {model['num_parameters']:,}" for model in parameters["models"])
    ratios = [
        f"{MODEL_NAMES[model]} / DeiT-Tiny = {counts[model] / counts['deit_tiny']:.3f}."
        for model in AFMP_MODELS
        if model in counts
    ]
    return wording.escape_rst(f"Parameters with {parameters['num_classes']} classes. {listed}. {' '.join(ratios)}")
