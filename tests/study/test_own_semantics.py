"""Studies with semantics and defaults of their own."""

import copy
import re

import pytest
import yaml
from conftest import PROJECT
from shipped_study import SHIPPED

from afmp.errors import AfmpError
from afmp.figures.catalogue import figures
from afmp.finished.study_records import study_records
from afmp.study.study import resolve_study

MESSAGES = {
    "section": "B.1",
    "title": "Messages",
    "figure": "messages",
    "semantics": ["refined"],
    "defaults": {"num_layers": 6, "is_sparse": False, "epochs": 20},
    "reference": "all_edges",
    "runs": [
        {"run": "all_edges"},
        {"run": "no_messages", "messages": False},
        {"run": "two_random", "is_sparse": True, "edges_per_node": 2, "routing": "random", "epochs": 30},
    ],
}


@pytest.fixture
def config() -> dict:
    return copy.deepcopy(SHIPPED) | {"studies": {"seed": SHIPPED["studies"]["regularisation"], "own": dict(MESSAGES)}}


def test_a_study_is_trained_under_its_own_semantics_only(config):
    study = resolve_study(config)
    own, others = list(study.runs)[-3:], list(study.runs)[:-3]
    assert own == ["all_edges", "no_messages", "two_random"]
    assert study.trainings == [
        *(("paper", run) for run in others),
        *(("notebook", run) for run in others),
        *(("refined", run) for run in own),
    ]
    trained = {record.path for record in study_records(study) if record.kind == "result"}
    drawn = {drawing.path: set(drawing.sources) for drawing in figures(study.to_dict())}
    assert "figures/refined/messages" in drawn and "figures/paper/messages" not in drawn
    assert not {path for path in drawn if path.startswith("figures/refined/") and "scalability" in path}
    sources = {path for paths in drawn.values() for path in paths if path.startswith("train/")}
    assert sources == trained
    assert not [path for path in drawn["figures/notebook_vs_paper"] if "all_edges" in path]


def test_a_line_goes_before_the_defaults_and_these_before_the_sections(config):
    runs = resolve_study(config).runs
    assert [runs[name].training.epochs for name in MESSAGES["runs"][0].values()] == [20]
    assert runs["two_random"].training.epochs == 30 and runs["two_random"].model.num_layers == 6
    assert runs["all_edges"].model.d_model == SHIPPED["model"]["d_model"]
    assert runs["sparse_0.3"].training.epochs == SHIPPED["training"]["epochs"]


def test_keys_at_their_default_are_in_no_result(config):
    plain = resolve_study(config).to_dict()
    assert set(plain["runs"]["sparse_0.3"]["model"]).isdisjoint({"edges_per_node", "routing", "messages"})
    assert plain["runs"]["two_random"]["model"]["routing"] == "random"
    assert ["semantics" in table for table in plain["studies"]] == [False, True]


def test_a_configuration_without_the_newer_keys_is_the_same_study(config):
    newer = ("edges_per_node", "routing", "messages", "use_directions", "use_errors", "architecture", "arguments")
    for key in newer:
        del config["model"][key]
    assert resolve_study(config) == resolve_study(config | {"model": SHIPPED["model"]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"semantics": ["refined", "paper"]}, "run 'no_messages', studies/own/runs/1: messages is False"),
        ({"semantics": []}, "studies/own/semantics: found []"),
        ({"semantics": ["refind"]}, "studies/own/semantics/0: found 'refind'"),
        ({"defaults": {"routing": "none", "is_sparse": True}}, "routing is 'none' and is_sparse true"),
        ({"defaults": {"run": "x"}}, "studies/own/defaults/run: unknown key"),
        ({"defaults": {"patch_size": 5}}, "studies/own/defaults/patch_size: 5 does not divide"),
        ({"defaults": {"edges_per_node": -1}}, "studies/own/defaults/edges_per_node: found -1"),
        ({"defaults": {"num_layers": 4, "epochs": "many"}}, "studies/own/defaults/epochs: found 'many'"),
    ],
)
def test_what_a_study_may_not_say_is_refused(config, change, words):
    config["studies"]["own"] |= change
    with pytest.raises(AfmpError, match=r"^config: ") as refused:
        resolve_study(config)
    assert words in str(refused.value)


def test_the_studies_in_the_documents_can_be_added_to_the_shipped_ones():
    page = (PROJECT / "docs/your-own-study.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(  \w+:.*?)```", page, re.DOTALL)]
    assert len(blocks) == 3
    for block in blocks:
        resolved = resolve_study(copy.deepcopy(SHIPPED) | {"studies": SHIPPED["studies"] | block})
        assert len(resolved.runs) > len(resolve_study(SHIPPED).runs)


def test_a_run_may_be_compared_with_another_than_the_reference(config):
    config["studies"]["own"]["runs"][2]["compare_with"] = "no_messages"
    members = resolve_study(config).studies[1]["members"]
    assert [member.get("compare_with") for member in members] == [None, None, "no_messages"]
    meant = r" \(did you mean 'no_messages'\?\)"
    for wrong, hint in (("two_random", ""), ("sparse_0.3", ""), ("no_mesages", meant)):
        config["studies"]["own"]["runs"][2]["compare_with"] = wrong
        with pytest.raises(AfmpError, match=f"compare_with: '{wrong}' is no other run of this study{hint};"):
            resolve_study(config)


def test_keys_without_effect_make_no_other_run(config):
    runs = config["studies"]["own"]["runs"]
    runs.append({"run": "silent_too", "messages": False, "use_errors": False, "is_sparse": True, "routing": "random"})
    with pytest.raises(AfmpError, match="'silent_too' and 'no_messages' of this study are the same run"):
        resolve_study(config)
    runs[-1] = {"run": "all_random", "routing": "random"}
    with pytest.raises(AfmpError, match="routing is 'random' and is_sparse false"):
        resolve_study(config)
