"""Models of timm in a study of the workflow: refused before any job, or trained, drawn, verified and archived."""

import re
from pathlib import Path

import pytest
from workflow_runs import SMALL, STUDY, copy_project, planned, run, snakemake, write_study

from afmp.records import read_result

VIT = {"run": "vit", "architecture": "timm/vit_tiny_patch16_224", "arguments": {"embed_dim": 8, "depth": 1}}
TABLE = {"section": "B.2", "title": "Rivals", "figure": "rivals", "semantics": ["refined"], "reference": "refined"}


def study(*lines: dict) -> dict:
    table = TABLE | {"defaults": {"is_sparse": False}, "runs": [{"run": "refined"}, *lines]}
    return SMALL | {"studies": {"rivals": table}}


@pytest.fixture
def project(tmp_path) -> Path:
    return copy_project(tmp_path)


@pytest.mark.promise("wrong-rival")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": "timm/vit_tiny"}, "config: architecture 'timm/vit_tiny': timm"),
        pytest.param(
            {"arguments": {"embed_dims": 8}}, "unexpected keyword argument 'embed_dims'", marks=pytest.mark.long
        ),
    ],
)
def test_a_rival_that_timm_does_not_build_ends_the_call_before_any_job(project, change, words):
    write_study(project, study(VIT | change))
    code, said = run(project, "all")
    assert code != 0 and words in said and "Traceback" not in said
    assert not list((project / "results").rglob("*.safetensors"))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_study_with_rivals_is_made_verified_and_archived(project):
    mixer = {"run": "mixer", "architecture": "timm/MlpMixer", "arguments": {"embed_dim": 8, "num_blocks": 1}}
    conv = {"run": "conv", "architecture": "timm/ConvMixer", "arguments": {"dim": 8, "depth": 1, "kernel_size": 3}}
    vit = VIT | {"arguments": VIT["arguments"] | {"num_heads": 2}}
    seed_study = STUDY["studies"]["sparsity_level"] | {"runs": [{"run": "dense", "is_sparse": False}]}
    changes = study(vit, mixer, conv | {"label": "ConvMixer"})
    changes["studies"]["sparsity_level"] = seed_study
    write_study(project, changes | {"seeds": [0, 1]})
    snakemake(project, "report")
    results = project / "results"
    assert sorted(path.name for path in (results / "train/timm").iterdir()) == ["conv", "mixer", "vit"]
    assert read_result(results / "train/timm/conv/seed_1/results_conv.json")["semantics"] == "timm"
    assert (results / "figures/refined/rivals.pdf").exists() and not (results / "figures/timm").exists()
    assert not (results / "plot_diagnostics/timm").exists()
    caption = (results / "figures/refined/rivals.rst").read_text()
    assert "Models of timm, to compare with: vit to ConvMixer." in caption
    assert planned(project) == {}
    said = snakemake(project, "verify", "--config", "deep=true", "spot=2", "draw=1")
    assert re.search(r"\n(\d+) checks: \1 passed, 0 failed, 0 could not be made\n", said)
    snakemake(project, "archive", "--config", "archive=archive/here")
    snakemake(project, "figures_from_archive", "--config", "archive=archive/here")
    assert (results / "figures_from_archive/figures/refined/rivals.png").exists()
    # Another argument is another run.
    changes["studies"]["rivals"]["runs"][1]["arguments"]["depth"] = 2
    write_study(project, changes | {"seeds": [0, 1]})
    assert planned(project)["train"] == 1
