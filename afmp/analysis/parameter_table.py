"""The table of parameters and FLOPs, and its caption."""

import pandas

from afmp.analysis import wording
from afmp.analysis.models import AFMP_MODELS, MODEL_NAMES

FLOPS = (
    "FLOPs are the floating-point operations of the forward pass of one image that torch.utils.flop_counter knows: "
    "products of matrices and convolutions, 2 per multiplication and addition. Not counted are, in AFMP, gathering "
    "along edges, the norms of prediction errors, the choice of edges and the gated sums at receivers; in all models, "
    "normalisation, softmax and activation functions. With one operation per element these would add less than 5 % "
    "to AFMP. AFMP is counted as its equations are written: paper and notebook map both ends of each edge. The paths "
    "that the sweep measures map each node once, and compute fewer products."
)
TRAINED = (
    "The rows with a semantics are the models that the study trains: one row per distinct model, named by the first "
    "run that has it. Runs that keep some edges, or no message, have the counts of the run with all edges, because the "
    "equations score every edge before they prune."
)


def parameters_table(parameters: dict) -> pandas.DataFrame:
    """Return the content of a parameters file as a table with a row per model: those compared, then those trained.

    It has the columns `flops`, and `semantics` and the rows of trained models, if the file has them: those of older
    releases do not. A row of a trained model has its run as `model`.
    """
    columns = ["model", "description", "resolution", "num_classes", "num_parameters"]
    columns += ["flops"] if _has_flops(parameters) else []
    rows = [model | {"num_classes": parameters["num_classes"]} for model in parameters["models"]]
    if trained := parameters.get("trained"):
        columns.insert(1, "semantics")
        rows += [model | {"model": model["run"], "num_classes": trained["num_classes"]} for model in trained["models"]]
    return pandas.DataFrame(rows)[columns]


def parameters_caption(parameters: dict) -> str:
    """Return the counts, the ratios of the models of the sweep, and what FLOPs are, in reStructuredText."""
    listed = "; ".join(f"{model['description']}: {_counts(model)}" for model in parameters["models"])
    text = f"Parameters with {parameters['num_classes']} classes. {listed}. {_ratios(parameters, 'num_parameters')}"
    if _has_flops(parameters):
        text += f" Ratios of FLOPs: {_ratios(parameters, 'flops')} {FLOPS}"
    if "trained" in parameters:
        text += f" {TRAINED}"
    return wording.escape_rst(text)


def _has_flops(parameters: dict) -> bool:
    return all("flops" in model for model in parameters["models"])


def _counts(model: dict) -> str:
    flops = f", {model['flops'] / 1e9:.3g} GFLOPs" if "flops" in model else ""
    return f"{model['num_parameters']:,}{flops}"


def _ratios(parameters: dict, key: str) -> str:
    counts = {model["model"]: model[key] for model in parameters["models"]}
    return " ".join(
        f"{MODEL_NAMES[model]} / DeiT-Tiny = {counts[model] / counts['deit_tiny']:.3f}."
        for model in AFMP_MODELS
        if model in counts
    )
