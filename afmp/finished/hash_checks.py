"""Checks that all results of a study come from one dataset and from one scaffold per size."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from afmp.data.dataset import load_dataset
from afmp.errors import AfmpError
from afmp.finished.check import Check
from afmp.finished.finished_study import FinishedStudy


def hash_checks(finished: FinishedStudy, dataset: Path) -> Iterator[Check]:
    """Yield the checks of the hashes in all valid results, and of the prepared dataset."""
    trained = {path: finished.contents[path] for path in finished.trained if path in finished.contents}
    datasets = {path: result["dataset"]["hash"] for path, result in trained.items()}
    yield Check(f"one dataset hash in {len(datasets)} results", _unlike_most(datasets, finished.results))
    yield Check("the dataset file is the one trained on", _dataset_faults(dataset, set(datasets.values())))
    scaffolds: dict[tuple, dict[str, str]] = {}
    for path, result in trained.items():
        config = finished.study.runs[finished.records[path].about["run"]]
        window = config.model.window_size if config.model.scaffold == "window" else None
        key = (config.model.scaffold, window, config.dataset.image_size, config.model.patch_size)
        scaffolds.setdefault(key, {})[path] = result["scaffold_hash"]
    for (kind, window, image_size, patch_size), hashes in scaffolds.items():
        name = kind if window is None else f"{kind} {window}"
        subject = f"one scaffold hash in {len(hashes)} results ({name}, {image_size} px, patches of {patch_size} px)"
        yield Check(subject, _unlike_most(hashes, finished.results))


def _dataset_faults(dataset: Path, hashes: set[str]) -> list[str]:
    try:
        found = load_dataset(dataset).hash
    except AfmpError as error:
        return [str(error)]
    return [f"{dataset}: its hash is {found[:12]}, a result says {other[:12]}" for other in sorted(hashes - {found})]


def _unlike_most(hashes: dict[str, str], results: Path) -> list[str]:
    """Return a fault for each path whose hash is not the most common one."""
    if not hashes:
        return ["no result to read it from"]
    common, count = Counter(hashes.values()).most_common(1)[0]
    return [
        f"{results / path}: {found[:12]}, but {common[:12]} in {count} of {len(hashes)} results"
        for path, found in hashes.items()
        if found != common
    ]
