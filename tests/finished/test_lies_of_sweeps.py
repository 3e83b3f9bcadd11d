"""Verification of studies in which a sweep or a count of parameters lies: each lie is a FAIL that names its file."""

import pytest
from lies import COUNTS, N, P, changed, edited, gone, in_points, merged, of_point, part, pipe, sweep
from verified import MADE_FROM_THEM, assert_found

# By group and name: a function that tells the lie, and a pattern of the FAIL line for each line that it causes.
LIES = {
    "a whole sweep": {
        "of the other semantics": (
            edited(sweep(P), semantics=N),
            rf"sweep \[paper\]: .*{sweep(P)}: semantics is 'notebook'",
            rf"sweep \[paper\], joined again.*{sweep(P)}: semantics is",
        ),
        "of another protocol": (
            merged(sweep(N), "protocol", repeats=3),
            f"{sweep(N)}: repeats is 3, the study says 10",
            f"joined again from its sizes: {sweep(N)}: protocol is",
        ),
    },
    "points of a sweep": {
        "a size that is missing": (
            in_points(lambda points: points.__delitem__(slice(6, 9)), sweep(P)),
            f"{sweep(P)}: has no point of resolution 224",
            f"{part(P, 224)}: its points are not those",
            r"sweep \[notebook\]: .*its points of models without semantics are not those of the sweep of paper",
        ),
        "a part that differs from the whole": (
            in_points(of_point(0, "num_parameters", 7), part(N, 64)),
            f"{part(N, 64)}: its points are not those in {sweep(N)}",
        ),
    },
    "points of a sweep and its parts alike": {
        "a median": (
            in_points(of_point(0, "time_ms/median", 0.5), sweep(P), part(P, 64)),
            f"{sweep(P)}: point of resolution 64.*: time_ms/median is 0.5, its times give",
        ),
        "a model without semantics": (
            in_points(of_point(1, "time_ms/all", [3.0] * 10), sweep(N), part(N, 64)),
            f"{sweep(N)}: .*its points of models without semantics",
        ),
    },
    "points of a sweep that cannot be": {
        "passes": (
            in_points(of_point(0, "time_ms/n", 31), sweep(P), part(P, 64)),
            f"{sweep(P)}: point of resolution 64.*: time_ms/n is 31",
        ),
        "memory": (
            in_points(of_point(0, "memory/activations_mb", 1.0), sweep(N), part(N, 64)),
            f"{sweep(N)}: point of resolution 64.*activations_mb is 1.0",
        ),
    },
    "points of a sweep that cannot be measured so": {
        "a point twice": (
            in_points(lambda points: points.append(points[-1]), sweep(P), part(P, 224)),
            f"{sweep(P)}: has a point twice",
        ),
        "memory of a CPU on a GPU": (
            in_points(of_point(0, "memory/kind", "resident_set_growth"), sweep(N), part(N, 64)),
            f"{sweep(N)}: point .*kind is 'resident_set_growth', its device has 'cuda_allocator'",
        ),
    },
    "points of a sweep of another model": {
        "parameters": (
            in_points(of_point(0, "num_parameters", 7), sweep(P), part(P, 64)),
            f"{sweep(P)}: num_parameters of afmp_small is 7, counted are",
        ),
        "no error of a failure": (
            in_points(of_point(0, "status", "oom"), sweep(N), part(N, 64)),
            f"{sweep(N)}: not a valid scalability file: points/0",
            f"{part(N, 64)}: not a valid scalability",
        ),
    },
    "parts of a sweep that cannot be read": {
        "missing": (gone(part(P, 128)), f"{part(P, 128)}: no such file"),
        "a pipe": (pipe(part(N, 128)), f"{part(N, 128)}: is a pipe"),
        "parameter counts": (edited(COUNTS, num_classes=7), f"{COUNTS}: num_classes is 7, the study says 100"),
    },
    "parameters": {
        "another number": (
            changed(COUNTS, lambda c: c["models"][1].update(num_parameters=5)),
            f"{COUNTS}: deit_tiny: num_parameters is 5, counted again it is",
            r"sweep \[paper\]: .*num_parameters of deit_tiny",
            r"sweep \[notebook\]: .*num_parameters of deit_tiny",
        ),
        "another number of operations": (
            changed(COUNTS, lambda c: c["models"][0].update(flops=5)),
            f"{COUNTS}: afmp_small: flops is 5, counted again it is",
        ),
        "a trained model": (
            changed(COUNTS, lambda c: c["trained"]["models"][1].update(num_parameters=5)),
            rf"{COUNTS}: run \S+ \[paper\]: num_parameters is 5, counted again it is",
        ),
        "another number of classes of the dataset": (
            changed(COUNTS, lambda c: c["trained"].update(num_classes=7)),
            f"{COUNTS}: trained: num_classes is 7, the dataset says 10",
        ),
        "no trained models, as in an older release": (changed(COUNTS, lambda c: c.pop("trained")),),
        "no operations, as in an older release": (changed(COUNTS, lambda c: c["models"][2].pop("flops")),),
    },
    "no parameters": {"missing": (gone(COUNTS), f"{COUNTS}: no such file")},
}


@pytest.mark.promise("verify-fails-by-name")
@pytest.mark.parametrize("group", LIES)
def test_each_lie_about_a_sweep_is_a_fail_that_names_its_file(study_to_break, group):
    assert_found(study_to_break, LIES[group], besides=MADE_FROM_THEM)
