"""Checks of the sweep: each whole one, its parts, the other semantics, and the parameters, counted again."""

from collections.abc import Iterator

from afmp.benchmark.join import join_resolutions
from afmp.finished.check import Check, NotCheckedError
from afmp.finished.differences import differences
from afmp.finished.finished_study import FinishedStudy
from afmp.finished.sweep_contradictions import of_counts, of_two_sweeps
from afmp.records import read_scalability
from afmp.study.paths import PARAMETERS_FILE, resolution_file, scalability_file


def sweep_checks(finished: FinishedStudy) -> Iterator[Check]:
    """Yield the checks of the sweep of each semantics, and of the counts of parameters."""
    if not finished.study.scalability:
        return
    for semantics in finished.study.swept_semantics:
        path = scalability_file(semantics)
        where = finished.results / path
        yield Check(f"sweep [{semantics}]", lambda one=semantics: _sweep_faults(finished, one), where)
        yield Check(
            f"sweep [{semantics}], joined again from its sizes",
            lambda one=semantics: _part_faults(finished, one),
            where,
        )
    where = finished.results / PARAMETERS_FILE
    yield Check("parameters, counted again", lambda: _count_faults(finished), where)


def _sweep_faults(finished: FinishedStudy, semantics: str) -> Iterator[str]:
    path = scalability_file(semantics)
    yield from finished.faults[path]
    sweep, counts = finished.contents.get(path), finished.contents.get(PARAMETERS_FILE)
    if sweep is None:
        return
    others = [finished.contents.get(scalability_file(other)) for other in finished.study.semantics]
    contradictions = [fault for other in others if other not in (None, sweep) for fault in of_two_sweeps(sweep, other)]
    if counts is not None and counts["num_classes"] == sweep["protocol"]["num_classes"]:
        contradictions += of_counts(sweep, counts)
    yield from (f"{finished.results / path}: {fault}" for fault in contradictions)


def _part_faults(finished: FinishedStudy, semantics: str) -> Iterator[str]:
    resolutions = finished.study.scalability["resolutions"]
    paths = [finished.results / resolution_file(semantics, resolution) for resolution in resolutions]
    joined = join_resolutions({str(path): read_scalability(path) for path in paths})
    path = scalability_file(semantics)
    whole = finished.contents.get(path)
    if whole is None:
        raise NotCheckedError("the whole is not valid")
    for fault in differences(whole, {key: joined[key] for key in joined if key != "points"}, "its sizes say"):
        yield f"{finished.results / path}: {fault}"
    if whole["points"] != joined["points"]:
        apart = [
            part
            for resolution, part in zip(resolutions, paths, strict=True)
            if _points_of(whole, resolution) != _points_of(joined, resolution)
        ]
        yield f"{apart[0] if apart else paths[0]}: its points are not those in {finished.results / path}"


def _points_of(sweep: dict, resolution: int) -> list[dict]:
    return [point for point in sweep["points"] if point["resolution"] == resolution]


def _count_faults(finished: FinishedStudy) -> Iterator[str]:
    yield from finished.faults[PARAMETERS_FILE]
    found = finished.contents.get(PARAMETERS_FILE)
    if found is None:
        return
    # Imported only here: timm loads slowly, and an archive that is often interrupted must get to its next check.
    from afmp.benchmark.parameters import count_parameters, count_trained

    counted = count_parameters(num_classes=finished.study.scalability["num_classes"])
    for index, model in enumerate(counted["models"]):
        entry = found["models"][index] if index < len(found["models"]) else {}
        if "flops" not in entry:
            model.pop("flops")  # of a release that did not count them
        for fault in differences(entry, model, "counted again it is"):
            yield f"{finished.results / PARAMETERS_FILE}: {model['model']}: {fault}"
    if len(found["models"]) > len(counted["models"]):
        yield f"{finished.results / PARAMETERS_FILE}: has a model more than are compared"
    if "trained" not in found:  # of a release that did not count them
        return
    num_classes = finished.data.num_classes if finished.data else found["trained"]["num_classes"]
    again = count_trained(finished.study.models, num_classes=num_classes)
    for fault in differences(found["trained"], {"num_classes": num_classes}, "the dataset says"):
        yield f"{finished.results / PARAMETERS_FILE}: trained: {fault}"
    for index, model in enumerate(again["models"]):
        entry = found["trained"]["models"][index] if index < len(found["trained"]["models"]) else {}
        for fault in differences(entry, model, "counted again it is"):
            yield f"{finished.results / PARAMETERS_FILE}: run {model['run']} [{model['semantics']}]: {fault}"
    if len(found["trained"]["models"]) > len(again["models"]):
        yield f"{finished.results / PARAMETERS_FILE}: has a model more than the study trains"
