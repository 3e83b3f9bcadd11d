"""The table of parameter counts and its caption."""

import pandas

from afmp.analysis import wording


def parameters_table(parameters: dict) -> pandas.DataFrame:
    """Return the content of a parameters file as a table with a row per model."""
    columns = ["model", "description", "resolution", "num_classes", "num_parameters"]
    return pandas.DataFrame(parameters["models"]).assign(num_classes=parameters["num_classes"])[columns]


def parameters_caption(parameters: dict) -> str:
    """Return the counts and the ratio of the two models of the sweep, in reStructuredText."""
    counts = {model["model"]: model["num_parameters"] for model in parameters["models"]}
    listed = "; ".join(f"{model['description']}: {model['num_parameters']:,}" for model in parameters["models"])
    ratio = counts["afmp_small"] / counts["deit_tiny"]
    return wording.escape_rst(
        f"Parameters with {parameters['num_classes']} classes. {listed}. AFMP-Small / DeiT-Tiny = {ratio:.3f}."
    )
