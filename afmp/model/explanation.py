"""Explanation of one answer: the edges that each layer kept, its prediction errors, and the answer without messages.

N patches, E directed edges. Edges are in the order of `Explanation.edge_index`.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from afmp.data.image_folder import log_notes, read_images
from afmp.model.afmp import AFMP
from afmp.model.prediction import check_finite, normalised, probabilities
from afmp.model.trained import About


class ExplainedLayer(NamedTuple):
    """What one layer did with an image.

    - gates (E,): mean over channels, 0 ... 1; exactly 0 on an edge that carries no message
    - errors (E,): the prediction errors in the scores, of kept and of pruned edges; None if the layer has none
    """

    gates: np.ndarray
    errors: np.ndarray | None


@dataclass(frozen=True)
class Explanation:
    """One answer of a model, and what it was made from.

    - about: what the weights say of themselves
    - image (3, H, W) uint8, as the model reads it: scaled and cropped
    - grid_shape: rows and columns of patches, which are counted row by row; positions (N, 2): their centres, pixels
    - edge_index (2, E): receiver, then sender
    - layers: the first layer first
    - probabilities, without_messages (classes,): of each class, and what they would be without messages
    """

    about: About
    image: np.ndarray
    grid_shape: tuple[int, int]
    positions: np.ndarray
    edge_index: np.ndarray
    layers: list[ExplainedLayer]
    probabilities: np.ndarray
    without_messages: np.ndarray

    def patch_name(self, patch: int) -> str:
        """Return the name of a patch: letters for the column and a number for the row, as in a spreadsheet."""
        row, column = divmod(int(patch), self.grid_shape[1])
        return f"{column_name(column)}{row + 1}"

    def edge_name(self, edge: int) -> str:
        """Return the patches of an edge, `sender → receiver`."""
        receiver, sender = self.edge_index[:, edge]
        return f"{self.patch_name(sender)} → {self.patch_name(receiver)}"

    def strongest_edges(self, layer: ExplainedLayer, number: int) -> list[int]:
        """Return the edges with the highest gates of a layer, the highest first: `number`, or all that it kept."""
        order = np.argsort(-layer.gates, kind="stable")[:number]
        return [int(edge) for edge in order if layer.gates[edge] > 0]

    def patch_errors(self, layer: ExplainedLayer) -> np.ndarray:
        """Return for each patch (N,) how far off its receivers' predictions of it are: the mean over edges it sends on.

        NaN for a patch that sends on no edge.
        """
        senders = self.edge_index[1]
        count = np.bincount(senders, minlength=len(self.positions))
        total = np.bincount(senders, weights=layer.errors, minlength=len(self.positions))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def column_name(column: int) -> str:
    """Return the letters of a column, counted from 0: A ... Z, AA, AB ..."""
    name = ""
    while column >= 0:
        column, letter = divmod(column, 26)
        name, column = chr(ord("A") + letter) + name, column - 1
    return name


@torch.no_grad()
def explain_file(model: AFMP, path: Path) -> Explanation:
    """Explain the answer of a model for one image file.

    model: as `afmp.load` returns it, on any device. The image is alone in its batch, so under `notebook`, too, it
    exchanges messages.

    Raises AfmpError as `predict_files` does.
    """
    about = model.about
    notes: list[tuple[str, Path]] = []
    pixels = read_images([path], image_size=about.image_size, notes=notes)
    log_notes(notes)
    images = torch.from_numpy(pixels)
    answer, silent = (probabilities(each, images)[0] for each in (model, without_edges(model)))
    for values in (answer, silent):
        check_finite(values.tolist(), path)

    device = next(model.parameters()).device
    inputs: list[Tensor] = []
    hook = model.layers[0].register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        internals = model.forward_internals(normalised(about, images.to(device)))
    finally:
        hook.remove()
    layers = []
    for layer, gates, state in zip(model.layers, internals.gates, [*inputs, *internals.states[:-1]], strict=True):
        errors = layer.prediction_errors(state, model.graph)
        if errors is not None:
            errors = _numbers(errors[0].flatten()[model.edge_slots])  # of the slots (N, K) those with an edge
        layers.append(ExplainedLayer(_numbers(gates[0].mean(dim=-1)), errors))
    return Explanation(
        about,
        pixels[0],
        model.grid_shape,
        _numbers(model.static_positions),
        model.directed_edge_index.cpu().numpy(),
        layers,
        _numbers(answer),
        _numbers(silent),
    )


def without_edges(model: AFMP) -> AFMP:
    """Return a copy of a model whose graph has no edges, so that no patch gets a message. All weights are the same.

    This is the same as gates of 0 on all edges. Under `refined` it is also the same as `messages=False`. It works under
    all semantics; the others do not allow `messages=False`.
    """
    silent, weights = copy.deepcopy(model), model.state_dict()
    silent.load_state_dict(weights | {name: weights[name][..., :0] for name in ("edge_index", "edge_attr")})
    return silent


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().double().numpy()
