"""Results of another study than the one that is given: one sentence says whose they are, and no file is at fault."""

from pathlib import Path

import pytest
import yaml
from archived_study import small_config
from conftest import PROJECT
from finished_study import fill_results

from afmp import cli, records
from afmp.errors import AfmpError
from afmp.finished.other_study import other_study
from afmp.finished.verify import verify
from afmp.study.study import resolve_study

SHIPPED = yaml.safe_load((PROJECT / "config.yaml").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("other") / "results"
    fill_results(folder, resolve_study(small_config()))
    records.write_text(folder / "aggregate/summary.csv", "semantics,study,run\npaper,top_down_refinement,top_down\n")
    return folder


def with_epochs(epochs: int) -> dict:
    config = small_config()
    return config | {"training": config["training"] | {"epochs": epochs, "visualize_every": 1}}


def test_results_of_the_study_itself_are_not_of_another(results):
    assert other_study(resolve_study(small_config()), results) is None
    assert other_study(resolve_study(small_config()), results / "nothing") is None


@pytest.mark.parametrize(
    ("config", "difference"),
    [
        (SHIPPED, "dataset/source is 'digits', but .* says 'cifar100'"),
        (with_epochs(7), "training/epochs is 3, but .* 7"),
    ],
)
def test_verify_says_whose_results_they_are_and_to_delete_none(results, config, difference):
    said = []
    with pytest.raises(AfmpError, match=rf"\(dataset digits; study top_down_refinement\): \S+{difference}") as refused:
        verify(config, results=results, dataset="none", archives=[], say=said.append)
    assert "--configfile" in str(refused.value) and "delete" not in str(refused.value) and said == []


def test_runs_that_are_not_in_the_study_are_named_by_the_first(results):
    config = small_config()
    table = config["studies"]["top_down_refinement"]
    own = {"own": table | {"figure": "own", "reference": "mine", "runs": [{"run": "mine", "d_model": 24}]}}
    said = other_study(resolve_study(config | {"studies": own}), results)
    assert "has no run 'sparse_0.3' under notebook" in said


def test_half_of_the_runs_is_a_study_that_was_changed(results):
    config = small_config()
    line = {"run": "top_down", "use_top_down": True, "learning_rate": 0.5}
    table = config["studies"]["top_down_refinement"] | {"runs": [line, {"run": "sparse_0.3"}]}
    assert other_study(resolve_study(config | {"studies": {"top_down_refinement": table}}), results) is None


@pytest.mark.parametrize("command", ["compare {} top_down_refinement", "draw {} --output none", "claims {}"])
def test_a_command_without_the_overlay_says_so(results, command, capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert cli.main(command.format(results).split()) == 2
    said = capsys.readouterr().err
    assert "most results there are of another configuration (dataset digits;" in said and "--config for afmp." in said
