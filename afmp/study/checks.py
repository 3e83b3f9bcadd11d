"""Checks of a study that no schema can express. Each raises AfmpError with the key, the value and what is allowed."""

import os

from afmp.errors import AfmpError
from afmp.files import FOLDER, is_there, kind_of
from afmp.study.config_schema import did_you_mean
from afmp.study.cuda_only import CUDA_ONLY
from afmp.study.run_config import DatasetConfig, RunConfig

# Names that the figure of a study may not have: rules and targets of the workflow, and modules in afmp/figures/.
TAKEN_FIGURES = (
    "all", "download", "tables", "prepare_data", "train", "aggregate", "benchmark_resolution", "benchmark_scalability",
    "count_parameters", "tabulate_scalability", "report", "scalability_results", "scalability_fits",
    "notebook_vs_paper", "claims", "answer_claims", "archive", "figures_from_archive", "claims_from_archive",
    "page_from_archive", "tables_from_archive", "manifest", "verify", "diagnostics", "explanation", "catalogue",
    "parts",
)  # fmt: skip

# Snakemake plans every file of a study before the first job. It takes a minute for as many.
MOST_TRAININGS = 5_000
MOST_PICTURES = 10_000


def check_dataset(dataset: DatasetConfig) -> None:
    """Check that source `folder`, and no other source, has the path of a folder with two splits or classes."""
    if dataset.source != "folder":
        if dataset.path is not None:
            raise AfmpError(
                f"config: dataset/path: {dataset.path!r} is only read by source 'folder', but dataset/source is "
                f"{dataset.source!r}; set path to null or source to folder."
            )
        return
    if dataset.path is None:
        raise AfmpError("config: dataset/path: null, but dataset/source 'folder' needs the path of an image folder.")
    seen_from = "" if os.path.isabs(dataset.path) else f" in {os.getcwd()}"
    if not _is_there(dataset.path):
        raise AfmpError(
            f"config: dataset/path: {dataset.path!r}{seen_from}: no such folder{_similar_folder(dataset.path)}; give "
            "the folder of the images. A relative path is relative to --directory, or to where `afmp` is called."
        )
    train, test, val = (_is_folder(os.path.join(dataset.path, split)) for split in ("train", "test", "val"))
    is_split = train and (test or val)
    if not is_split and (train or test or val or not _has_folders(dataset.path)):
        raise AfmpError(
            f"config: dataset/path: {dataset.path!r}{seen_from} contains no train/<class>/ and test/<class>/ "
            "(or val/<class>/), nor folders of classes alone; give the folder that contains them."
        )


def _similar_folder(path: str) -> str:
    """Return a hint at the folder beside a missing one that is spelt most alike; empty if none is."""
    above, name = os.path.split(os.path.normpath(path))
    try:
        beside = [other for other in os.listdir(above or ".") if _is_folder(os.path.join(above, other))]
    except (AfmpError, OSError):
        return ""
    return did_you_mean(name, beside)


def _is_there(path: str) -> bool:
    try:
        return is_there(path)
    except AfmpError as closed:
        raise AfmpError(f"config: dataset/path: {closed}") from None


def _is_folder(path: str) -> bool:
    try:
        return is_there(path) and kind_of(path) == FOLDER
    except AfmpError as closed:  # a folder above it may not be entered, so nobody knows what is there
        raise AfmpError(f"config: dataset/path: {closed}") from None


def _has_folders(path: str) -> bool:
    try:
        return any(_is_folder(os.path.join(path, name)) for name in os.listdir(path) if not name.startswith("."))
    except OSError:
        return False


def check_sweep(sweep: dict) -> None:
    """Check that the device has at least one value of each list: the sweep skips those that it does not have."""
    for key in ("precision", "execution"):
        if sweep["device"] in ("cpu", "mps") and all(value in CUDA_ONLY for value in sweep[key]):
            raise AfmpError(
                f"config: scalability/{key}: {sweep[key]} exists on CUDA devices only, but scalability/device is "
                f"{sweep['device']!r}; allowed with it: device cuda or auto, or one more {key}."
            )


def check_figures(studies: dict) -> None:
    """Check that each study's figure has a name of its own, which the workflow does not use."""
    taken = dict.fromkeys(TAKEN_FIGURES, "the workflow itself")
    for study, table in studies.items():
        figure, where = table["figure"], f"studies/{study}"
        if figure in taken:
            raise AfmpError(
                f"config: {where}/figure: {figure!r} is already taken by {taken[figure]}; choose another name."
            )
        if figure.startswith("plot_"):
            raise AfmpError(
                f"config: {where}/figure: {figure!r} starts with plot_, as the workflow's own rules that draw do; "
                "choose another name."
            )
        taken[figure] = where


def check_extent(runs: dict[str, RunConfig], trainings: list[tuple[str, str]], *, seeds: list[int]) -> None:
    """Check that a study does not have more trainings and pictures than Snakemake can plan.

    trainings: (semantics, run) of everything that is trained with each of `seeds`.
    """
    number = len(trainings) * len(seeds)
    if number > MOST_TRAININGS:
        semantics = len({name for name, _ in trainings})
        raise AfmpError(
            f"config: seeds: {len(seeds):,} random seeds, {len(runs):,} distinct runs and {semantics} semantics "
            f"are {number:,} trainings; allowed: {MOST_TRAININGS:,}. Lower the number of seeds or runs."
        )
    pictures = {
        name: 0 if run.model.is_rival else -(-run.training.epochs // run.training.visualize_every)
        for name, run in runs.items()
    }
    total = sum(pictures[run] for _, run in trainings)
    if total > MOST_PICTURES:
        name = max(pictures, key=pictures.get)
        training = runs[name].training
        raise AfmpError(
            f"config: training/visualize_every: {training.visualize_every} of {training.epochs:,} epochs gives run "
            f"{name!r} {pictures[name]:,} pictures of its diagnostics, and the study {total:,}; allowed: "
            f"{MOST_PICTURES:,}. Raise visualize_every."
        )
