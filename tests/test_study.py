"""config.yaml: what it resolves to, and one message for every mistake."""

import copy

import jsonschema
import pytest
import yaml
from conftest import PROJECT

from afmp.errors import AfmpError
from afmp.records import schema
from afmp.study import RunConfig, read_study, refuse_duplicate_keys, resolve_study


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((PROJECT / "config.yaml").read_text())


def test_shipped_study_is_the_seeds():
    study = read_study(PROJECT / "config.yaml")
    assert len(study.runs) == 9
    assert [s["figure"] for s in study.studies] == [
        "comparison_results_full",
        "lambda_sparse_comparison",
        "comparison_topdown_vs_no",
    ]
    sparsity = {run: config.model.sparsity for run, config in study.runs.items() if config.model.is_sparse}
    assert sparsity["sparse_0.6"] == 0.6
    assert not study.runs["dense"].model.is_sparse
    assert [name for name, run in study.runs.items() if run.model.use_top_down] == ["sparse_0.3_top_down"]
    training = study.runs["dense"].training
    assert (training.epochs, training.batch_size, training.learning_rate) == (100, 128, 1e-3)
    assert (training.weight_decay, training.plateau_patience, training.plateau_factor) == (1e-4, 5, 0.2)
    assert study.scalability["resolutions"] == [64, 96, 128, 160, 192, 224]
    assert study.scalability["batch_size"] == 64


def test_demo_overlay_is_a_valid_study(config):
    overlay = yaml.safe_load((PROJECT / "demo.yaml").read_text())
    for section, values in overlay.items():
        config[section] = config[section] | values if isinstance(values, dict) else values
    study = resolve_study(config)
    assert study.dataset.source == "digits" and len(study.seeds) == 2 and len(study.runs) == 9


def test_every_key_has_a_description():
    def walk(fragment, where):
        for name, child in fragment.get("properties", {}).items():
            assert child.get("description"), f"{where}/{name} has no description"
            walk(child, f"{where}/{name}")
        for name in ("additionalProperties", "items"):
            if isinstance(fragment.get(name), dict):
                walk(fragment[name], f"{where}/{name}")
        for name, child in fragment.get("$defs", {}).items():
            walk(child, f"{where}/$defs/{name}")

    jsonschema.Draft202012Validator.check_schema(schema("config"))
    walk(schema("config"), "config")


def test_runs_with_one_configuration_are_trained_once(config):
    runs = config["studies"]["regularisation"]["runs"]
    runs[1]["run"] = "lambda_1e-4"  # the same configuration as sparse_0.3 of the first study, under another name
    config["studies"]["regularisation"]["reference"] = "lambda_1e-4"
    study = resolve_study(config)
    assert len(study.runs) == 9 and "lambda_1e-4" not in study.runs
    regularisation = study.studies[1]
    assert regularisation["reference"] == "sparse_0.3"
    assert [member["run"] for member in regularisation["members"]][1] == "sparse_0.3"


def test_a_line_adds_one_run(config):
    config["studies"]["sparsity_level"]["runs"].append({"run": "sparse_0.9", "sparsity": 0.9})
    study = resolve_study(config)
    assert len(study.runs) == 10
    assert study.studies[0]["members"][-1] == {"run": "sparse_0.9", "label": "sparse_0.9"}


def test_numbers_with_exponent_but_no_dot_are_numbers(config):
    config["training"]["learning_rate"] = yaml.safe_load("3e-4")  # YAML 1.1 reads text here
    assert resolve_study(config).runs["sparse_0.3"].training.learning_rate == 3e-4


def test_run_config_survives_a_round_trip(config):
    run = resolve_study(config).runs["sparse_0.3"]
    assert RunConfig.from_dict(run.to_dict()) == run


def _set(path, value):
    def change(config):
        *parents, last = path.split("/")
        for name in parents:
            config = config[int(name) if name.isdigit() else name]
        config[last] = value

    return change


def _append_run(**line):
    return lambda config: config["studies"]["regularisation"]["runs"].append(line)


MISTAKES = {
    "unknown key": (_set("model/patchsize", 4), ["model/patchsize", "4", "patch_size"]),
    "unknown section": (_set("modell", {}), ["modell", "model"]),
    "missing section": (lambda config: config.pop("training"), ["training", "missing"]),
    "missing key": (lambda config: config["model"].pop("d_model"), ["model/d_model", "missing"]),
    "wrong type": (_set("model/d_model", "big"), ["model/d_model", "'big'", "whole number"]),
    "boolean for a number": (_set("training/epochs", True), ["training/epochs", "True", "whole number"]),
    "out of range": (_set("training/epochs", 0), ["training/epochs", "0", "at least 1"]),
    "not finite": (_set("training/learning_rate", float("nan")), ["nan", "finite"]),
    "unknown choice": (_set("dataset/source", "mnist"), ["dataset/source", "'mnist'", "cifar100"]),
    "unknown semantics": (_set("semantics", ["papr"]), ["semantics/0", "'papr'", "paper, notebook"]),
    "seed twice": (_set("seeds", [1, 1]), ["seeds", "[1, 1]", "once"]),
    "no seeds": (_set("seeds", []), ["seeds", "[]", "at least 1"]),
    "patch does not divide": (_set("model/patch_size", 7), ["model/patch_size", "7", "32", "1, 2, 4, 8, 16, 32"]),
    "patch of one run": (_append_run(run="x", patch_size=5), ["regularisation/runs/3/patch_size", "5", "16"]),
    "one name, two runs": (
        _append_run(run="dense", sparsity=0.4),
        ["regularisation/runs/3/run", "'dense'", "is_sparse True instead of False", "sparsity_level"],
    ),
    "one name twice in a study": (
        _append_run(run="sparse_0.3", sparsity=0.4),
        ["regularisation/runs/3/run", "'sparse_0.3'", "own name"],
    ),
    "two names, one run": (_append_run(run="again"), ["regularisation/runs/3/run", "'again'", "'sparse_0.3'"]),
    "unknown override": (_append_run(run="x", spars=0.4), ["runs/3/spars", "0.4", "sparsity"]),
    "name with a slash": (_append_run(run="a/b", sparsity=0.4), ["runs/3/run", "'a/b'", "names like"]),
    "no such reference": (
        _set("studies/regularisation/reference", "best"),
        ["regularisation/reference", "'best'", "sparse_0.3"],
    ),
    "figure twice": (
        _set("studies/regularisation/figure", "comparison_results_full"),
        ["regularisation/figure", "comparison_results_full", "sparsity_level"],
    ),
    "figure of the workflow": (_set("studies/regularisation/figure", "report"), ["figure", "'report'", "taken"]),
    "resolution between patches": (
        _set("scalability/resolutions", [64, 100]),
        ["scalability/resolutions/1", "100", "multiple of 16"],
    ),
    "folder without path": (_set("dataset/source", "folder"), ["dataset/path", "null", "folder"]),
    "path without folder": (_set("dataset/path", "images"), ["dataset/path", "'images'", "null"]),
    "empty section": (_set("studies", None), ["studies", "None", "mapping"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_its_message(config, name):
    change, parts = MISTAKES[name]
    change(config)
    with pytest.raises(AfmpError) as caught:
        resolve_study(config)
    message = str(caught.value)
    assert message.startswith("config: ") and "\n" not in message
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


def test_a_folder_without_splits_is_refused(config, tmp_path):
    config["dataset"] |= {"source": "folder", "path": str(tmp_path)}
    with pytest.raises(AfmpError, match="train/<class>/"):
        resolve_study(config)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert resolve_study(config).dataset.path == str(tmp_path)


def test_resolving_leaves_its_input_alone(config):
    before = copy.deepcopy(config)
    resolve_study(config)
    assert config == before


def test_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  d_model: 1\n  patch_size: 8\n  d_model: 2\n")
    with pytest.raises(AfmpError, match=r"model/d_model stands twice, in lines 2 and 4"):
        refuse_duplicate_keys(path)


def test_file_that_is_not_yaml_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model: [1, 2\nseeds: 3")
    with pytest.raises(AfmpError, match="not a YAML file"):
        refuse_duplicate_keys(path)
