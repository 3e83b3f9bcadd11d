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
from afmp.figures.parts.style import save_figure
from afmp.records import read_diagnostics, read_result, read_scalability, write_text
from afmp.study.paths import diagnostics_file, image_file, result_files, scalability_file

# Figures of the sweeps; each file of afmp/figures/ goes by its name.
SWEEP_FIGURES = (scalability_results, scalability_fits)


@dataclass(frozen=True)
class Drawing:
    """A figure: its path below results/ without an ending, and what draws and describes what `read` finds.

    `sources` are the paths below results/ of the records that `read` reads.
    """

    path: str
    sources: list[str]
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


def figures(study: dict) -> list[Drawing]:
    """What `snakemake all` draws below results/figures/ for a study given as `dataclasses.asdict(Study)`."""
    found = []
    for semantics in study["semantics"]:
        place = f"figures/{semantics}"
        for one in study["studies"]:
            runs, module = [member["run"] for member in one["members"]], import_module(figure_module(one["figure"]))
            sources = result_files(semantics, runs, study["seeds"])
            read = partial(_read_study, one, sources)
            found.append(Drawing(f"{place}/{one['figure']}", sources, read, module.draw, module.caption))
        for module in SWEEP_FIGURES:
            name = module.__name__.rpartition(".")[2]
            others = [other for other in study["semantics"] if other != semantics]
            sources = [scalability_file(which) for which in (semantics, *others)]
            read = partial(_read_sweeps, sources)
            found.append(Drawing(f"{place}/{name}", sources, read, module.draw, module.caption))
    if set(study["semantics"]) == {"paper", "notebook"}:
        paper, notebook = (result_files(which, study["runs"], study["seeds"]) for which in ("paper", "notebook"))
        read, module = partial(_read_both, study["studies"], paper, notebook), notebook_vs_paper
        found.append(Drawing("figures/notebook_vs_paper", paper + notebook, read, module.draw, module.caption))
    return found


def last_diagnostics(study: dict) -> list[Drawing]:
    """Each run's gates at its last epoch, as below results/plot_diagnostics/, over a test image that an archive holds.

    `snakemake all` draws the epochs before it too; ten epochs of every run are minutes of drawing.
    """
    found = []
    for semantics in study["semantics"]:
        for run, config in study["runs"].items():
            epoch = config["training"]["epochs"]
            file = diagnostics_file(semantics, run, study["seeds"][0])
            path = f"plot_diagnostics/{semantics}/{run}/epoch_{epoch:04d}"
            read = partial(_read_diagnostics, file, epoch)
            found.append(Drawing(path, [file], read, diagnostics.draw, _diagnostics_caption, ("png", "rst")))
    return found


def _read_results(paths: list[str], folder: Path) -> list[dict]:
    return [read_result(folder / path) for path in paths]


def _read_study(one: dict, paths: list[str], folder: Path) -> tuple:
    return one, _read_results(paths, folder)


def _read_sweeps(paths: list[str], folder: Path) -> tuple:
    return tuple(read_scalability(folder / path) for path in paths)


def _read_both(studies: list[dict], paper: list[str], notebook: list[str], folder: Path) -> tuple:
    return studies, _read_results(paper, folder), _read_results(notebook, folder)


def _read_diagnostics(file: str, epoch: int, folder: Path) -> tuple:
    record = read_diagnostics(folder / file)
    with Image.open(folder / image_file(record["image_index"])) as image:
        pixels = np.asarray(image.convert("RGB")).transpose(2, 0, 1)  # uint8 (3, H, W)
    return record, epoch, pixels


def _diagnostics_caption(record: dict, epoch: int, _image: np.ndarray) -> str:
    return diagnostics.caption(record, epoch)
