"""Every figure of a study as one list: where it goes, what draws it, what it reads of a folder laid out as results/."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from afmp.figures import diagnostics, figure_module, notebook_vs_paper, scalability_fits, scalability_results
from afmp.figures.style import save_figure
from afmp.records import read_diagnostics, read_result, read_scalability, write_text

# Figures of the sweeps; each file of afmp/figures/ goes by its name.
SWEEP_FIGURES = (scalability_results, scalability_fits)


@dataclass(frozen=True)
class Drawing:
    """A figure: its path below results/ without an ending, and what draws and describes what `read` finds."""

    path: str
    read: Callable[[Path], tuple]
    figure: Callable[..., Figure]
    caption: Callable[..., str]
    endings: tuple[str, ...] = ("png", "pdf", "rst")

    @property
    def files(self) -> list[str]:
        """Paths below results/ of what is written: the figure, and its caption as .rst."""
        return [f"{self.path}.{ending}" for ending in self.endings]

    def write(self, *, source: Path, folder: Path) -> None:
        """Read below `source`, write `files` below `folder`. Raises AfmpError for what is no such record."""
        content = self.read(source)
        files = {ending: folder / file for ending, file in zip(self.endings, self.files, strict=True)}
        save_figure(self.figure(*content), png=files["png"], pdf=files.get("pdf"))
        write_text(files["rst"], self.caption(*content))


def result_path(semantics: str, run: str, seed: int, name: str) -> str:
    """Path below results/ of one file that training left."""
    return f"train/{semantics}/{run}/seed_{seed}/{name}"


def scalability_path(semantics: str) -> str:
    """Path below results/ of one sweep."""
    return f"benchmark_scalability/{semantics}/scalability.json"


def image_path(index: int) -> str:
    """Path in an archive of the test image that diagnostics were read on."""
    return f"test_images/{index}.png"


def figures(study: dict) -> list[Drawing]:
    """What `snakemake all` draws below results/figures/ for a study given as `dataclasses.asdict(Study)`."""
    found = []
    for semantics in study["semantics"]:
        place = f"figures/{semantics}"
        for one in study["studies"]:
            runs, module = [member["run"] for member in one["members"]], import_module(figure_module(one["figure"]))
            read = partial(_read_study, one, runs=runs, semantics=semantics, seeds=study["seeds"])
            found.append(Drawing(f"{place}/{one['figure']}", read, module.draw, module.caption))
        for module in SWEEP_FIGURES:
            name = module.__name__.rpartition(".")[2]
            read = partial(_read_sweeps, [semantics, *(other for other in study["semantics"] if other != semantics)])
            found.append(Drawing(f"{place}/{name}", read, module.draw, module.caption))
    if set(study["semantics"]) == {"paper", "notebook"}:
        read, module = partial(_read_both, study), notebook_vs_paper
        found.append(Drawing("figures/notebook_vs_paper", read, module.draw, module.caption))
    return found


def last_diagnostics(study: dict) -> list[Drawing]:
    """Each run's gates at its last epoch, as below results/plot_diagnostics/, over a test image that an archive holds.

    `snakemake all` draws the epochs before it too; ten epochs of every run are minutes of drawing.
    """
    found = []
    for semantics in study["semantics"]:
        for run, config in study["runs"].items():
            epoch = config["training"]["epochs"]
            file = result_path(semantics, run, study["seeds"][0], "diagnostics.json")
            path = f"plot_diagnostics/{semantics}/{run}/epoch_{epoch:04d}"
            read = partial(_read_diagnostics, file, epoch)
            found.append(Drawing(path, read, diagnostics.draw, _diagnostics_caption, ("png", "rst")))
    return found


def _read_results(folder: Path, *, runs: list[str], semantics: str, seeds: list[int]) -> list[dict]:
    return [
        read_result(folder / result_path(semantics, run, seed, f"results_{run}.json")) for run in runs for seed in seeds
    ]


def _read_study(one: dict, folder: Path, **which) -> tuple:
    return one, _read_results(folder, **which)


def _read_sweeps(semantics: list[str], folder: Path) -> tuple:
    return tuple(read_scalability(folder / scalability_path(name)) for name in semantics)


def _read_both(study: dict, folder: Path) -> tuple:
    which = {"runs": list(study["runs"]), "seeds": study["seeds"]}
    results = [_read_results(folder, semantics=semantics, **which) for semantics in ("paper", "notebook")]
    return study["studies"], *results


def _read_diagnostics(file: str, epoch: int, folder: Path) -> tuple:
    record = read_diagnostics(folder / file)
    with Image.open(folder / image_path(record["image_index"])) as image:
        pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)  # uint8 (3, H, W)
    return record, epoch, pixels


def _diagnostics_caption(record: dict, epoch: int, _image: np.ndarray) -> str:
    return diagnostics.caption(record, epoch)
