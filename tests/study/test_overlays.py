"""Overlays: merged as Snakemake merges them, with studies, runs and the sweep removed."""

import copy
import re

import pytest
import yaml
from conftest import PROJECT
from shipped_study import SHIPPED, complains
from snakemake.utils import update_config

from afmp.errors import AfmpError
from afmp.finished.study_files import study_files
from afmp.study import overlays
from afmp.study.overlays import read_configs
from afmp.study.study import resolve_elsewhere

DEPTH = {
    "section": "A.1",
    "title": "Depth",
    "figure": "depth",
    "reference": "one",
    "runs": [{"run": "one", "num_layers": 1}],
}


@pytest.fixture
def read(tmp_path):
    """Return a function that writes overlays and reads them, the first of them over the shipped configuration."""

    def read(*contents: dict) -> dict:
        paths = [tmp_path / f"{number}.yaml" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_text(yaml.safe_dump(content))
        return read_configs(paths)

    return read


def test_files_are_merged_as_snakemake_merges_them(read):
    demo = yaml.safe_load((PROJECT / "demo.yaml").read_text())
    more = {"seeds": [7], "training": {"epochs": 1}, "scalability": {"resolutions": [16]}, "studies": {"depth": DEPTH}}
    expected = copy.deepcopy(SHIPPED)
    update_config(expected, copy.deepcopy(demo))
    update_config(expected, copy.deepcopy(more))
    found = read(demo, more)
    assert found == expected and list(found["studies"]) == list(expected["studies"])


def test_a_complete_file_stands_alone_and_may_have_an_overlay(read):
    complete = SHIPPED | {"studies": {"depth": DEPTH}}
    assert read(complete) == complete
    assert read(complete, {"seeds": [3]}) == complete | {"seeds": [3]}


def test_an_overlay_without_the_file_that_it_changes_is_refused(read, monkeypatch, tmp_path):
    monkeypatch.setattr(overlays, "SHIPPED", tmp_path / "nowhere.yaml")
    with pytest.raises(AfmpError, match=r"0\.yaml: has no section 'dataset', so it is an overlay, .* give that file "):
        read({"seeds": [0]})


def test_null_removes_a_study_also_one_that_another_overlay_added(read):
    config = read({"studies": {"depth": DEPTH, "messages": None}}, {"studies": {"depth": None, "window": None}})
    assert config["studies"].keys() == SHIPPED["studies"].keys() - {"messages", "window"}


@pytest.mark.promise("configuration-mistake")
def test_a_misspelt_study_is_not_removed_without_a_word(read):
    with pytest.raises(AfmpError, match=r"studies/mesages: null .* \(did you mean 'messages'\?\); allowed: sparsity_"):
        read({"studies": {"mesages": None}})
    with pytest.raises(AfmpError, match=r"studies: found {}; allowed: a mapping of keys, entries at least 1"):
        resolve_elsewhere(read({"studies": dict.fromkeys(SHIPPED["studies"])}))


def test_without_takes_runs_out_of_a_study(read):
    study = resolve_elsewhere(read({"studies": {"sparsity_level": {"without": ["sparse_0.2", "sparse_0.6"]}}}))
    members = [member["run"] for member in study.studies[0]["members"]]
    assert members == ["dense", "sparse_0.3", "sparse_0.4", "sparse_0.5"]
    assert resolve_elsewhere(SHIPPED).runs.keys() - study.runs.keys() == {"sparse_0.2", "sparse_0.6"}


WITHOUT = {
    "no run": (["sparse_0.33"], r"without/0: 'sparse_0.33' is no run of this study \(did you mean 'sparse_0.3'\?\); "),
    "the reference": (["dense"], "sparsity_level/reference: 'dense' is no run of this study"),
    "all": ([run["run"] for run in SHIPPED["studies"]["sparsity_level"]["runs"]], "write `studies: {sparsity_level: n"),
    "not a list": ("dense", "sparsity_level/without: found 'dense'; allowed: a list"),
}


@pytest.mark.promise("configuration-mistake")
@pytest.mark.parametrize("case", WITHOUT)
def test_a_run_that_cannot_be_taken_out_is_named(read, case):
    without, message = WITHOUT[case]
    with pytest.raises(AfmpError, match=message) as caught:
        resolve_elsewhere(read({"studies": {"sparsity_level": {"without": without}}}))
    assert complains(caught.value, of="config: ")


def test_my_images_is_one_run_without_the_sweep_and_the_studies_of_the_paper():
    study = resolve_elsewhere(read_configs([PROJECT / "my_images.yaml"]))
    assert study.trainings == [("refined", "first")] and len(study.studies) == 1
    assert study.dataset.source == "folder" and study.scalability is None
    assert not [path for path in study_files(study) if re.search("scalability|resolution|parameters", path)]


def test_the_other_name_of_a_run_leads_to_the_one_under_which_it_is_trained():
    shipped = resolve_elsewhere(SHIPPED)
    assert shipped.other_names == {"refined_16": "dense"}
    assert "refined_16" not in shipped.runs and ("refined", "dense") in shipped.trainings
