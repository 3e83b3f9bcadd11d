"""The picture of README: one test image, its scaffold, and the edges that each layer keeps.

Reads the archived study (gates of the last epoch, first random seed), so it needs no dataset, GPU or training:
`python docs/pictures/draw_one_image.py` writes docs/pictures/one_image.png, or the file named as its argument.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

HERE = Path(__file__).resolve().parent
ARCHIVE = HERE.parents[1] / "archive" / "2026-11-24-h200"
RUN = "sparse_0.3_top_down"
GATES = Normalize(0.3, 0.6)


def draw(diagnostics: dict, image: np.ndarray) -> Figure:
    """Draw one panel for the image, one for the scaffold and one per layer; image is uint8 (H, W, 3)."""
    points = np.asarray(diagnostics["positions"])[:, ::-1]  # (N, 2) as x, y in pixels
    receivers, senders = np.asarray(diagnostics["edge_index"])  # (E,) each
    epochs = diagnostics["epochs"]
    layers = np.asarray(epochs[max(epochs, key=int)]["mean_gate"])  # (layers, E)

    figure = Figure(figsize=(11.5, 2.35), layout="constrained")
    panels = figure.subplots(1, 2 + len(layers))
    for panel in panels:
        _show_patches(panel, image, diagnostics["patch_size"], faded=panel is not panels[0])
    panels[0].set_title(f"{len(points)} patches")

    for i, j in zip(receivers, senders, strict=True):
        panels[1].plot(*points[[i, j]].T, color="#333333", linewidth=1.2)
    panels[1].scatter(*points.T, s=20, color="white", edgecolors="black", zorder=3)
    panels[1].set_title(f"{len(receivers)} possible edges")

    colours = ScalarMappable(GATES, "viridis")
    for layer, (panel, gates) in enumerate(zip(panels[2:], layers, strict=True)):
        kept = np.flatnonzero(gates)
        panel.scatter(*points.T, s=20, color="white", edgecolors="black", zorder=3)
        for edge in kept:
            arrow = {"arrowstyle": "-|>", "linewidth": 2.2, "color": colours.to_rgba(gates[edge]), "mutation_scale": 15}
            # Edges of both directions between two patches bend apart.
            arrow |= {"connectionstyle": "arc3,rad=0.18", "shrinkA": 3, "shrinkB": 4}
            panel.annotate("", points[receivers[edge]], points[senders[edge]], arrowprops=arrow, zorder=4)
        panel.set_title(f"Layer {layer} keeps {len(kept)}")
    figure.colorbar(colours, ax=list(panels), pad=0.01, shrink=0.86, label="Mean gate")
    return figure


def _show_patches(panel, image: np.ndarray, patch_size: int, *, faded: bool) -> None:
    height, width = image.shape[:2]
    panel.imshow(image, extent=(0, width, height, 0), alpha=0.35 if faded else 1.0)
    panel.set_xticks(range(0, width + 1, patch_size), labels=[])
    panel.set_yticks(range(0, height + 1, patch_size), labels=[])
    panel.tick_params(length=0)
    panel.grid(color="#999999", linewidth=0.8)


def main() -> None:
    """Draw the picture of the archived run and write it."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "one_image.png"
    diagnostics = json.loads((ARCHIVE / f"train/paper/{RUN}/seed_0/diagnostics.json").read_text(encoding="utf-8"))
    with Image.open(ARCHIVE / f"test_images/{diagnostics['image_index']}.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    draw(diagnostics, pixels).savefig(target, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main()
