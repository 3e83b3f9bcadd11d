"""The catalogue of figures: for each one the records it reads, the module that draws it, and the files it becomes.

Modules are named here and imported only when they draw. A rule therefore watches the module of its own figure and no
other: `import_closure` cannot see an import by name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from afmp.figures.parts.image import read_test_image
from afmp.records import read_diagnostics, read_result, read_scalability, write_text
from afmp.study.paths import (
    DIAGNOSTICS_ENDINGS,
    FIGURE_ENDINGS,
    NOTEBOOK_VS_PAPER,
    dataset_file,
    diagnostics_file,
    figure_files,
    figure_path,
    plot_diagnostics_path,
    result_files,
    scalability_file,
)
from afmp.study.semantics import AFMP_SEMANTICS, COMPARED_SEMANTICS, RIVAL, semantics_of, trained_under, trainings

SWEEP_FIGURES = ("scalability_results", "scalability_fits")
# How the argument of this name is read from a file.
READERS = {
    "results": read_result,
    "paper": read_result,
    "notebook": read_result,
    "sweep": read_scalability,
    "other_sweeps": read_scalability,
    "diagnostics": read_diagnostics,
}


@dataclass(frozen=True)
class Drawing:
    """One figure of a study, in plain values. All paths are relative to a results folder.

    - path: of the figure, without an ending
    - module: has `draw`, which returns a matplotlib Figure, and `caption`, which returns reStructuredText
    - settings: arguments of both functions that come from the study
    - records: arguments of both functions that are read: the path of one record, or a list of paths
    - dataset: of a figure over a test image, the prepared dataset that contains the image
    """

    path: str
    module: str
    settings: dict
    records: dict[str, str | list[str]]
    dataset: str | None = None
    endings: tuple[str, ...] = FIGURE_ENDINGS

    @property
    def name(self) -> str:
        """Name of the figure: `scalability_fits`, or `diagnostics`."""
        return "diagnostics" if "diagnostics" in self.records else Path(self.path).name

    @property
    def files(self) -> list[str]:
        """Paths of the files of the figure: its caption has the ending .rst."""
        return figure_files(self.path, self.endings)

    @property
    def sources(self) -> list[str]:
        """Paths of the records that the figure is drawn from."""
        return [path for paths in self.records.values() for path in _listed(paths)]

    def write(self, *, source: Path | str, folder: Path | str) -> None:
        """Read the records below `source`, draw, and write the files below `folder`.

        Raises AfmpError for a file that is missing or not valid.
        """
        kinds = {path: name for name, paths in self.records.items() for path in _listed(paths)}
        contents = {path: READERS[name](Path(source, path)) for path, name in kinds.items()}
        self.write_from(contents, lambda index: read_test_image(Path(source), self.dataset, index), folder=folder)

    def write_from(
        self, contents: dict[str, dict], read_image: Callable[[int], np.ndarray], *, folder: Path | str
    ) -> None:
        """Draw the records `contents`, by path, and write the files below `folder`; `read_image` gives a test image."""
        # Imported only here: Snakemake reads the catalogue at every start, and Matplotlib loads slowly.
        from afmp.figures.parts.plain_matplotlib import import_matplotlib

        import_matplotlib()
        from afmp.figures.parts.style import save_figure

        module = import_module(self.module)
        arguments = self.settings | {
            name: contents[paths] if isinstance(paths, str) else [contents[path] for path in paths]
            for name, paths in self.records.items()
        }
        image = {}
        if self.dataset is not None:
            image = {"image": read_image(arguments["diagnostics"]["image_index"])}
        files = {ending: Path(folder, file) for ending, file in zip(self.endings, self.files, strict=True)}
        save_figure(module.draw(**arguments, **image), png=files["png"], pdf=files.get("pdf"))
        write_text(files["rst"], module.caption(**arguments))


def _listed(paths: str | list[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else paths


def figure_module(figure: str) -> str:
    """Return the module that draws a study's figure: the one of this name, else the general panels."""
    own = f"afmp.figures.{figure}"
    return own if find_spec(own) else "afmp.figures.parts.study_panels"


def figures(study: dict) -> list[Drawing]:
    """Return all figures below figures/ of a study, which is given as by `Study.to_dict`."""
    drawings = []
    for semantics in dict.fromkeys([*study["semantics"], *AFMP_SEMANTICS]):
        for table in studies_under(study, semantics):
            results = [
                path
                for member in table["members"]
                for path in result_files(trained_under(member, semantics), [member["run"]], study["seeds"])
            ]
            records = {"results": results}
            path, module = figure_path(semantics, table["figure"]), figure_module(table["figure"])
            drawings.append(Drawing(path, module, {"study": table}, records))
        for figure in SWEEP_FIGURES if study["scalability"] and semantics in study["semantics"] else ():
            others = [scalability_file(other) for other in study["semantics"] if other != semantics]
            records = {"sweep": scalability_file(semantics), "other_sweeps": others}
            drawings.append(Drawing(figure_path(semantics, figure), f"afmp.figures.{figure}", {}, records))
    both = [table for table in study["studies"] if is_compared(table, study["semantics"])]
    if both:
        compared = {member["run"] for table in both for member in table["members"]}
        runs = [run for run in study["runs"] if run in compared]
        records = {name: result_files(name, runs, study["seeds"]) for name in COMPARED_SEMANTICS}
        settings = {"studies": both}
        drawings.append(Drawing(NOTEBOOK_VS_PAPER, "afmp.figures.notebook_vs_paper", settings, records))
    return drawings


def studies_under(study: dict, semantics: str) -> list[dict]:
    """Return those tables of a study that are trained under one semantics."""
    return [table for table in study["studies"] if semantics in semantics_of(table, study["semantics"])]


def is_compared(table: dict, default: list[str]) -> bool:
    """Return whether one study is trained under both semantics that notebook_vs_paper compares."""
    return set(COMPARED_SEMANTICS) <= set(semantics_of(table, default))


def diagnostics_figures(study: dict, *, semantics: str, run: str, epochs: Iterable[int]) -> list[Drawing]:
    """Return the figures of one run's diagnostics, one per epoch, for the first random seed of a study as `figures`."""
    return [
        Drawing(
            plot_diagnostics_path(semantics, run, epoch),
            "afmp.figures.diagnostics",
            {"epoch": epoch},
            {"diagnostics": diagnostics_file(semantics, run, study["seeds"][0])},
            dataset_file(study["dataset"]["source"]),
            DIAGNOSTICS_ENDINGS,
        )
        for epoch in epochs
    ]


def last_diagnostics(study: dict) -> list[Drawing]:
    """Return each run's diagnostics figure at its last epoch: drawing all epochs of all runs takes minutes."""
    return [
        drawing
        for semantics, run in trainings(study["studies"], study["runs"], study["semantics"])
        if semantics != RIVAL  # it has no gates
        for epochs in [[study["runs"][run]["training"]["epochs"]]]
        for drawing in diagnostics_figures(study, semantics=semantics, run=run, epochs=epochs)
    ]
