"""Joining the files of single sizes into one sweep."""

import pytest
from small_sweeps import measured_sweep, replace_models, small_sweep

from afmp.analysis.sweep_tables import scalability_table
from afmp.benchmark.join import join_resolutions
from afmp.errors import AfmpError


def one_size(sweep: dict, resolution: int, **versions) -> dict:
    """The file of one size of a sweep."""
    points = [point for point in sweep["points"] if point["resolution"] == resolution]
    return sweep | {"points": points, "versions": sweep["versions"] | versions}


def test_sizes_measured_apart_are_one_sweep():
    sweep = measured_sweep()
    parts = {f"{size}.json": one_size(sweep, size) for size in (48, 32)}
    assert [point["resolution"] for point in join_resolutions(parts)["points"]] == [48] * 3 + [32] * 3
    assert join_resolutions(dict(reversed(parts.items()))) == sweep


def test_sizes_of_different_commits_name_their_commits():
    sweep = measured_sweep()
    commits = {"48.json": ("a" * 40, False), "32.json": ("b" * 40, True)}
    parts = {
        path: one_size(sweep, int(path[:2]), git_commit=commit, git_dirty=dirty)
        for path, (commit, dirty) in commits.items()
    }
    joined = join_resolutions(parts)
    versions = joined["versions"]
    assert versions["git_commit"] == f"{'a' * 40}, {'b' * 40}" and versions["git_dirty"]
    table = scalability_table(joined)
    assert list(table) == list(scalability_table(sweep))
    for row in (*joined["points"], *table.to_dict("records")):
        assert (row["git_commit"], row["git_dirty"]) == commits[f"{row['resolution']}.json"]


@pytest.mark.promise("sizes-of-other-conditions")
@pytest.mark.parametrize(("group", "key"), [("device", "name"), ("versions", "torch"), ("protocol", "repeats")])
def test_sizes_measured_under_different_conditions_are_not_joined(group, key):
    sweep = measured_sweep()
    other = one_size(sweep, 32)
    other[group] = other[group] | {key: "another"}
    message = f"^32.json: {group}/{key} 'another' found, but 48.json has .*: delete the file"
    with pytest.raises(AfmpError, match=message):
        join_resolutions({"48.json": one_size(sweep, 48), "32.json": other})


def test_a_size_that_the_whole_sweep_skips_is_an_empty_part(monkeypatch):
    """Without CUDA, sizes above 224 px are skipped, unless all are."""
    replace_models(monkeypatch, afmp_small="build_light")
    common = {"models": ("afmp_small",), "skip_impossible": True}
    skipped = small_sweep(resolutions=(448,), part_of=(32, 448), **common)
    assert skipped["points"] == [] and "above 224 px" in skipped["protocol"]["skipped"][0]
    measured = small_sweep(resolutions=(32,), part_of=(32, 448), **common)
    joined = join_resolutions({"32.json": measured, "448.json": skipped})
    assert joined["points"] == measured["points"] and joined["protocol"] == skipped["protocol"]
    assert small_sweep(resolutions=(240,), part_of=(240, 448), **common)["points"] != []
