"""Checks that all results of a study come from one dataset, and that this is the prepared one."""

from collections import Counter
from collections.abc import Iterator

from afmp.finished.check import Check, NotCheckedError
from afmp.finished.differences import differences
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.text_files import read_text
from afmp.study.paths import dataset_hash_file


def hash_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield the checks of the prepared dataset, and of the hashes in all valid results."""
    yield Check("the prepared dataset", lambda: _dataset_faults(finished), finished.dataset_path)
    hash_file = finished.results / dataset_hash_file(finished.study.dataset.source)
    yield Check("the hash beside the dataset", lambda: _hash_file_faults(finished), hash_file)
    number = len(finished.trained)
    yield Check(f"one dataset hash in {number} results", lambda: _hash_faults(finished), finished.results)


def _dataset_faults(finished: FinishedStudy) -> Iterator[str]:
    if finished.data is None:
        yield finished.dataset
        return
    sizes = {config.dataset.image_size for config in finished.study.runs.values()}
    if sizes != {finished.data.image_size}:
        yield f"{finished.dataset_path}: its images have {finished.data.image_size} px, the study says {max(sizes)}"


def _hash_file_faults(finished: FinishedStudy) -> Iterator[str]:
    """Yield the fault of the small file beside the dataset, by which the workflow decides what is made again."""
    path = finished.results / dataset_hash_file(finished.study.dataset.source)
    found = read_text(path).strip()
    if finished.data is None:
        raise NotCheckedError("there is no prepared dataset")
    yield from (
        f"{path}: {fault}" for fault in differences({"hash": found}, {"hash": finished.data.hash}, "the dataset has")
    )


def _hash_faults(finished: FinishedStudy) -> Iterator[str]:
    hashes = {
        path: finished.contents[path]["dataset"]["hash"] for path in finished.trained if path in finished.contents
    }
    if not hashes:
        raise NotCheckedError("no result is valid")
    common, count = Counter(hashes.values()).most_common(1)[0]
    if finished.data is not None and finished.data.hash != common:
        yield (
            f"{finished.dataset_path}: its hash is {finished.data.hash[:12]}, but {count} of {len(hashes)} results "
            f"were trained on {common[:12]}"
        )
    for path, found in hashes.items():
        if found != common:
            yield f"{finished.results / path}: dataset/hash is {found[:12]}, {common[:12]} in {count} of {len(hashes)}"
