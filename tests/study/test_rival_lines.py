"""Rivals in the lines of a study: models of timm, resolved without PyTorch."""

import copy
import json
import subprocess
import sys

import pytest
from conftest import PROJECT
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.figures.catalogue import diagnostics_figures, figures, last_diagnostics
from afmp.finished.study_files import study_files
from afmp.study.run_config import RunConfig
from afmp.study.study import Study, resolve_study

VIT = {"run": "vit", "architecture": "timm/vit_tiny_patch16_224", "arguments": {"embed_dim": 128, "depth": 4}}
MIXER = {"run": "mixer", "label": "Mixer", "architecture": "timm/MlpMixer", "patch_size": 4, "epochs": 7}
RIVALS = {
    "section": "B.2",
    "title": "Rivals",
    "figure": "rivals",
    "semantics": ["paper", "refined"],
    "defaults": {"num_layers": 6, "is_sparse": False},
    "reference": "all_edges",
    "runs": [{"run": "all_edges"}, VIT, MIXER],
}


@pytest.fixture
def config() -> dict:
    return copy.deepcopy(SHIPPED | {"studies": {"seed": SHIPPED["studies"]["regularisation"], "rivals": RIVALS}})


@pytest.fixture
def study(config) -> Study:
    return resolve_study(config)


def test_a_rival_is_trained_once_under_its_own_name(study):
    assert study.trainings[-2:] == [("timm", "vit"), ("timm", "mixer")]
    assert {semantics for semantics, run in study.trainings if run == "all_edges"} == {"paper", "refined"}
    members = study.studies[-1]["members"]
    assert members == [
        {"run": "all_edges", "label": "all_edges"},
        {"run": "vit", "label": "vit", "semantics": "timm"},
        {"run": "mixer", "label": "Mixer", "semantics": "timm"},
    ]
    assert study.runs["mixer"].model.patch_size == 4 and study.runs["mixer"].training.epochs == 7


def test_a_rival_stands_in_the_figures_of_its_study_and_has_no_gates(study):
    plain = study.to_dict()
    drawn = {drawing.path: drawing.sources for drawing in figures(plain)}
    for semantics in ("paper", "refined"):
        folders = {path.rsplit("/", 2)[0] for path in drawn[f"figures/{semantics}/rivals"]}
        assert folders == {f"train/{semantics}/all_edges", "train/timm/vit", "train/timm/mixer"}
    assert not [path for path in drawn if path.startswith("figures/timm/")]
    assert not [source for source in drawn["figures/notebook_vs_paper"] if "/timm/" in source]
    assert study.runs["vit"].visualized_epochs == [] != study.runs["all_edges"].visualized_epochs
    assert not [drawing for drawing in last_diagnostics(plain) if "/timm/" in drawing.path]
    assert not diagnostics_figures(plain, semantics="timm", run="vit", epochs=study.runs["vit"].visualized_epochs)
    files = [path for path in study_files(study) if "/timm/" in path]
    assert len(files) == 2 * len(study.seeds) * 4 and all(path.startswith("train/timm/") for path in files)


def test_a_rival_in_a_result_file_reads_back_as_itself(study):
    plain = study.runs["vit"].to_dict()
    assert plain["model"]["arguments"] == {"depth": 4, "embed_dim": 128}
    assert RunConfig.from_dict(plain) == study.runs["vit"] and hash(study.runs["vit"])
    assert set(study.runs["all_edges"].to_dict()["model"]).isdisjoint({"architecture", "arguments"})


def test_numbers_and_flags_of_arguments_may_be_text(config):
    config["studies"]["rivals"]["runs"][1]["arguments"] = {"depth": "4", "drop_rate": "1e-1", "qkv_bias": "false"}
    arguments = resolve_study(config).runs["vit"].to_dict()["model"]["arguments"]
    assert arguments == {"depth": 4, "drop_rate": 0.1, "qkv_bias": False}
    assert type(arguments["depth"]) is int


def test_keys_that_a_rival_does_not_read_make_no_other_run(config, study):
    again = {"section": "B.3", "title": "Again", "figure": "again", "reference": "vit", "semantics": ["refined"]}
    config["studies"]["again"] = again | {"defaults": {"num_layers": 2, "visualize_every": 3}, "runs": [VIT]}
    assert resolve_study(config).trainings == study.trainings
    config["studies"]["again"]["runs"] = [VIT | {"run": "other_name"}]
    config["studies"]["again"]["reference"] = "other_name"
    assert resolve_study(config).studies[-1]["members"] == [{"run": "vit", "label": "other_name", "semantics": "timm"}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 4}, "run 'vit', studies/rivals/runs/1/num_layers: found 4, but architecture is 'timm/vit_tiny"),
        ({"routing": "random"}, "and routing is for AFMP; remove it, or set `arguments`"),
        ({"architecture": "afmp"}, "arguments: found {'embed_dim': 128, 'depth': 4}, but architecture is 'afmp'"),
        ({"architecture": "timm/"}, "architecture: found 'timm/'; allowed: afmp, or timm/ and the name"),
        ({"architecture": "timm/hf-hub:a/b"}, "architecture: found 'timm/hf-hub:a/b'; allowed"),
        ({"architecture": "torchvision/resnet18"}, "architecture: found 'torchvision/resnet18'; allowed"),
        ({"arguments": {"depth": [1, 2]}}, "arguments/depth: found [1, 2]; allowed: a number or true or false"),
        ({"arguments": {"depth": 1e9}}, "arguments/depth: found 1000000000.0; allowed"),
        ({"arguments": {"drop_rate": float("nan")}}, "arguments/drop_rate: found nan; allowed: finite numbers"),
        ({"arguments": {"pretrained": True}}, "arguments: found 'pretrained'; allowed: lower-case letters"),
        ({"arguments": {"checkpoint_path": "x.pth"}}, "arguments: found 'checkpoint_path'"),
        ({"arguments": {"num_classes": 3}}, "arguments: found 'num_classes'"),
        ({"arguments": [4]}, "arguments: found [4]; allowed: a mapping"),
        ({"patch_size": 5}, "patch_size: 5 does not divide"),
        ({"run": "mixer", "architecture": "timm/ConvMixer"}, "'mixer' names two runs of this study"),
    ],
)
def test_what_a_rival_may_not_say_is_refused(config, change, words):
    config["studies"]["rivals"]["runs"][1] = VIT | change
    with pytest.raises(AfmpError, match=r"^config: ") as refused:
        resolve_study(config)
    assert words in str(refused.value) and str(refused.value).endswith(".")


def test_a_study_that_chooses_on_the_test_set_has_no_rivals(config):
    config["studies"]["rivals"] |= {"semantics": ["paper", "notebook"]}
    with pytest.raises(AfmpError, match=r"'vit', studies/rivals/runs/1: .* also trained under notebook, which chooses"):
        resolve_study(config)


def test_one_name_for_two_rivals_is_refused_with_their_arguments(config):
    other = VIT | {"arguments": {"depth": 5}}
    config["studies"]["again"] = RIVALS | {"figure": "again", "reference": "vit", "runs": [other]}
    with pytest.raises(AfmpError, match=r"arguments \{'depth': 5\} instead of \{'depth': 4, 'embed_dim': 128\}"):
        resolve_study(config)


def test_a_rival_under_the_name_of_another_run_is_refused_in_a_short_sentence(config):
    strong = SHIPPED["studies"]["accuracy_and_cost"]["defaults"]
    rival = VIT | {"run": "sparse_0.3", "arguments": {"depth": 5}}
    config["studies"]["rivals"] = RIVALS | {"defaults": strong, "runs": [*RIVALS["runs"], rival]}
    with pytest.raises(AfmpError, match=r"'sparse_0\.3' names two different runs, .* and \d+ more") as caught:
        resolve_study(config)
    assert complains(caught.value, of="config: ")


def test_timm_is_no_semantics_of_a_study(config):
    for place in (config, config["studies"]["rivals"]):
        refused = copy.deepcopy(config)
        target = refused if place is config else refused["studies"]["rivals"]
        target["semantics"] = ["timm"]
        with pytest.raises(AfmpError, match="semantics/0: found 'timm'; allowed: paper, notebook"):
            resolve_study(refused)


def test_a_study_with_rivals_is_read_without_pytorch():
    code = (
        "import sys, json; from afmp.study.study import resolve_study; resolve_study(json.load(sys.stdin))\n"
        "assert not {'torch', 'timm'} & set(sys.modules)"
    )
    config = json.dumps(SHIPPED | {"studies": {"rivals": RIVALS}})
    subprocess.run([sys.executable, "-c", code], input=config, text=True, check=True, cwd=PROJECT)


def test_a_rival_has_no_key_of_afmp_in_its_configuration(config):
    before = resolve_study(config).runs["vit"]
    config["model"] |= {"d_model": 64, "sparsity": 0.5, "scaffold": "window"}
    assert resolve_study(config).runs["vit"] == before
    assert set(before.to_dict()["model"]) <= {"architecture", "arguments", "patch_size"}
    assert RunConfig.from_dict(before.to_dict()) == before
