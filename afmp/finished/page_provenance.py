"""Provenance on the first page: a study in a few facts, how it was made, and how to cite an archive."""

import hashlib

from afmp.analysis import wording
from afmp.errors import printable
from afmp.files import read_plain
from afmp.finished.manifest import MANIFEST, MAX_MANIFEST_BYTES
from afmp.finished.opened_archive import OpenedArchive
from afmp.study.study import Study


def summary_facts(study: Study, results: list[dict]) -> list[tuple[str, str]]:
    """Return the facts of a study in a few words each."""
    best = {}
    for result in results:
        best.setdefault(result["semantics"], []).append(result["test_accuracy"])
    accuracy = "; ".join(f"{min(found):.1f} to {max(found):.1f} % ({name})" for name, found in best.items())
    return [
        ("Runs", f"{len(study.trainings)}, each with {wording.counted([len(study.seeds)], 'random seed')}"),
        ("Test accuracy", accuracy),
        ("Dataset", wording.distinct(_dataset(result) for result in results)),
        ("Device", wording.distinct(result["device"]["name"] for result in results)),
    ]


def _dataset(result: dict) -> str:
    data = result["dataset"]
    return f"{data['name']}: {data['num_classes']} classes, {data['num_test']:,} test images"


def made_with(records: list[dict]) -> list[tuple[str, str]]:
    """Return versions, hardware, commit and dataset of the records, each as its different values."""
    names = {
        "afmp": "AFMP that made the results",
        "git_commit": "Commit",
        "python": "Python",
        "torch": "PyTorch",
        "cuda": "CUDA",
        "driver": "NVIDIA driver",
        "timm": "timm",
        "numpy": "NumPy",
    }
    made = [("Hardware", wording.distinct(f"{one['device']['name']} ({one['device']['type']})" for one in records))]
    for key, name in names.items():
        versions = (_version(one["versions"], key) for one in records)
        made.append((name, wording.distinct(filter(None, versions)) or "none"))
    of_data = [record["dataset"] for record in records if "dataset" in record]
    counted = (
        f"{data['name']}: {data['num_train']:,} training, {data['num_val']:,} validation and "
        f"{data['num_test']:,} test images, {data['num_classes']} classes"
        for data in of_data
    )
    made.append(("Dataset", wording.distinct(counted)))
    made.append(("Dataset hash", wording.distinct(data["hash"] for data in of_data)))
    return made


def _version(versions: dict, key: str) -> str:
    value = versions.get(key) or ""
    return f"{value} with uncommitted changes" if key == "git_commit" and versions.get("git_dirty") else value


def archive_citation(opened: OpenedArchive, results: list[dict]) -> str:
    """Return how to cite an archive: its folder, the commit of its results, and the hash of its manifest."""
    commits = wording.distinct(wording.commit(result["versions"]) for result in results)
    manifest = hashlib.sha256(read_plain(opened.folder / MANIFEST, max_bytes=MAX_MANIFEST_BYTES)).hexdigest()
    return (
        f"To cite this archive, add its folder {printable(opened.folder.resolve().name)}, the commit that made its "
        f"results ({commits}), and the sha256 of its {MANIFEST}: {manifest}."
    )
