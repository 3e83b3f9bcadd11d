"""The study: what config.yaml resolves to, and one message for every mistake."""

import copy
import pkgutil
import re
from dataclasses import MISSING, fields

import jsonschema
import pytest
import yaml
from conftest import PROJECT
from snakemake.utils import update_config

from afmp.analysis.models import MODELS
from afmp.analysis.series import MADE_BY_HAND
from afmp.benchmark import settings as benchmark
from afmp.errors import AfmpError
from afmp.records import schema
from afmp.study.checks import TAKEN_FIGURES
from afmp.study.config_file import read_config
from afmp.study.cuda_only import CUDA_ONLY
from afmp.study.run_config import DatasetConfig, ModelConfig, RunConfig, TrainingConfig
from afmp.study.semantics import AFMP_SEMANTICS, SEMANTICS, SWEPT_SEMANTICS
from afmp.study.study import read_study, resolve_study

RUNS = len(read_study(PROJECT / "config.yaml").runs)


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((PROJECT / "config.yaml").read_text())


def test_shipped_study_is_that_of_the_original_notebook():
    study = read_study(PROJECT / "config.yaml")
    of_paper = [study.runs[run] for semantics, run in study.trainings if semantics == "paper"]
    assert len(of_paper) == 9 and len(study.runs) == RUNS
    assert [s["figure"] for s in study.studies if "paper" in s["semantics"]] == [
        "comparison_results_full",
        "lambda_sparse_comparison",
        "comparison_topdown_vs_no",
    ]
    assert study.runs["sparse_0.6"].model.sparsity == 0.6
    assert not study.runs["dense"].model.is_sparse
    assert [run for run in of_paper if run.model.use_top_down] == [study.runs["sparse_0.3_top_down"]]
    training = study.runs["dense"].training
    assert (training.epochs, training.batch_size, training.learning_rate) == (100, 128, 1e-3)
    assert (training.weight_decay, training.plateau_patience, training.plateau_factor) == (1e-4, 5, 0.2)
    assert study.scalability["resolutions"] == [64, 96, 128, 160, 192, 224, 448, 896, 1792, 3584]
    assert study.scalability["batch_size"] == 64


def test_demo_overlay_is_a_valid_study(config):
    update_config(config, yaml.safe_load((PROJECT / "demo.yaml").read_text()))
    study = resolve_study(config)
    assert study.dataset.source == "digits" and len(study.seeds) == 2 and len(study.trainings) >= RUNS


def test_labels_of_the_demo_say_what_its_runs_are(config):
    """An overlay replaces a list of runs, so the demo repeats that of `messages`."""
    demo = yaml.safe_load((PROJECT / "demo.yaml").read_text())
    shipped, shown = (one["studies"]["messages"]["runs"] for one in (config, demo))
    assert [line | {"num_layers": 0} for line in shown] == [line | {"num_layers": 0} for line in shipped]
    for overlay in ({}, demo):
        update_config(config, overlay)
        study = resolve_study(config)
        layers = {run: study.runs[run].model.num_layers for run in ("with_top_down", "all_edges", "best_2")}
        assert layers["with_top_down"] == layers["all_edges"] - 1 == layers["best_2"] - 1 >= 2
        labels = [one["label"] for table in study.studies for one in table["members"] if one["run"] == "with_top_down"]
        assert labels == ["Top-down, one layer fewer"]


def _fragments(fragment, where="config"):
    """Yield every fragment of the schema that describes a value, after its place."""
    yield where, fragment
    for name in ("properties", "$defs"):
        for key, child in fragment.get(name, {}).items():
            yield from _fragments(child, f"{where}/{key}")
    for name in ("additionalProperties", "items", "propertyNames"):
        if isinstance(fragment.get(name), dict):
            yield from _fragments(fragment[name], f"{where}/{name}")


def test_every_key_has_a_description():
    jsonschema.Draft202012Validator.check_schema(schema("config"))
    for where, fragment in _fragments(schema("config")):
        for key, child in fragment.get("properties", {}).items():
            assert child.get("description"), f"{where}/{key} has no description"
        assert "pattern" not in fragment or fragment.get("$comment"), f"{where}: no words for the pattern"


def test_schema_and_code_know_the_same_semantics():
    assert tuple(schema("config")["$defs"]["semantics"]["items"]["enum"]) == AFMP_SEMANTICS
    assert tuple(schema("config")["properties"]["semantics"]["items"]["enum"]) == SWEPT_SEMANTICS
    for record, names in (("result", SEMANTICS), ("diagnostics", SEMANTICS), ("scalability", AFMP_SEMANTICS)):
        assert tuple(schema(record)["properties"]["semantics"]["enum"]) == tuple(names)
    for section, names in (("test_accuracy", SEMANTICS), ("scalability", AFMP_SEMANTICS)):
        assert tuple(schema("expected")["properties"][section]["propertyNames"]["enum"]) == tuple(names)


def test_schema_and_code_know_the_same_keys(config):
    definitions, sections = schema("config")["$defs"], schema("config")["properties"]
    model, training = (set(definitions[name]["properties"]) for name in ("model_keys", "training_keys"))
    assert {field.name for field in fields(DatasetConfig)} == set(sections["dataset"]["properties"])
    for kind, keys, section in ((ModelConfig, model, "model"), (TrainingConfig, training, "training")):
        assert {field.name for field in fields(kind)} == keys
        # A key that a later release added may be absent.
        assert {field.name for field in fields(kind) if field.default is MISSING} == set(sections[section]["required"])
    sweep = sections["scalability"]["properties"]
    lists = {
        "models": MODELS,
        "precision": benchmark.PRECISIONS,
        "mode": benchmark.MODES,
        "execution": benchmark.EXECUTIONS,
        "attention": benchmark.ATTENTIONS,
    }
    assert {key: tuple(sweep[key]["items"]["enum"]) for key in lists} == lists
    assert {"tf32", *MADE_BY_HAND} < set(CUDA_ONLY) < {*benchmark.PRECISIONS, *benchmark.EXECUTIONS}
    jsonschema.Draft202012Validator(schema("config")).validate(config)
    assert set(config) == set(sections)
    assert set(config["model"]) == model
    of_the_study = set(sections["training"]["properties"])
    assert set(config["training"]) == training | of_the_study and not training & of_the_study
    for section in ("dataset", "scalability"):
        assert set(config[section]) == set(sections[section]["properties"])
    study = sections["studies"]["additionalProperties"]["properties"]
    assert set().union(*config["studies"].values()) | {"without"} == set(study)  # which only an overlay needs


def test_no_figure_takes_a_name_of_the_workflow(config):
    files = [PROJECT / "Snakefile", *(PROJECT / "rules").glob("*.smk")]
    rules = {rule for file in files for rule in re.findall(r"^\s*rule (\w+):", file.read_text(), re.MULTILINE)}
    rules = {rule for rule in rules if not rule.startswith("plot_")}
    modules = {module.name for module in pkgutil.iter_modules([str(PROJECT / "afmp" / "figures")])}
    modules -= {table["figure"] for table in config["studies"].values()}
    assert {"all", "train", "report"} < rules and {"catalogue", "parts"} < modules
    assert set(TAKEN_FIGURES) == rules | modules


def test_environment_pins_what_the_constraints_pin():
    def pins(file):
        return {name.lower(): version for name, version in re.findall(r"([\w.-]+)==(\S+)", file.read_text())}

    constraints, environment = pins(PROJECT / "constraints.txt"), pins(PROJECT / "envs" / "afmp.yaml")
    assert len(environment) >= 10
    assert environment == {name: constraints.get(name) for name in environment}


def test_runs_with_one_configuration_are_trained_once(config):
    runs = config["studies"]["regularisation"]["runs"]
    runs[1]["run"] = "lambda_1e-4"  # the same configuration as sparse_0.3 of the first study, under another name
    config["studies"]["regularisation"]["reference"] = "lambda_1e-4"
    study = resolve_study(config)
    assert len(study.runs) == RUNS and "lambda_1e-4" not in study.runs
    regularisation = study.studies[1]
    assert regularisation["reference"] == "sparse_0.3"
    assert [member["run"] for member in regularisation["members"]][1] == "sparse_0.3"


def test_keys_without_effect_do_not_make_another_run(config):
    runs = config["studies"]["regularisation"]["runs"]
    runs.append({"run": "full", "is_sparse": False, "sparsity": 0.9, "lambda_sparse": 0.5})  # dense keeps every edge
    runs.append({"run": "sparse_0.5", "sparsity": 0.5, "window_size": 3})  # no window in a Delaunay scaffold
    study = resolve_study(config)
    assert len(study.runs) == RUNS
    assert [member["run"] for member in study.studies[1]["members"]][3:] == ["dense", "sparse_0.5"]
    assert study.runs["dense"].model.sparsity == 0.3 and study.runs["sparse_0.5"].model.window_size == 8


def test_keys_with_effect_make_another_run(config):
    runs = config["studies"]["regularisation"]["runs"]
    runs.append({"run": "near", "scaffold": "window", "window_size": 2})
    runs.append({"run": "far", "scaffold": "window", "window_size": 3})
    runs.append({"run": "far_dense", "scaffold": "window", "window_size": 3, "is_sparse": False})
    assert len(resolve_study(config).runs) == RUNS + 3


def test_a_sweep_without_models_is_that_of_the_paper_and_says_no_models(config):
    """So the archive of an older study is read as it was: neither its config.yaml nor its study.json names models."""
    assert resolve_study(config).to_dict()["scalability"]["models"] == list(MODELS)
    del config["scalability"]["models"]
    of_paper = resolve_study(config)
    assert of_paper.scalability["models"] == ["afmp_small", "deit_tiny"]
    config["scalability"]["models"] = ["afmp_small", "deit_tiny"]
    assert of_paper.to_dict() == resolve_study(config).to_dict()
    assert of_paper.to_dict()["scalability"].keys() == of_paper.scalability.keys() - {"models"}
    config["scalability"]["models"] = ["afmp_tiny"]
    with pytest.raises(AfmpError, match="scalability/models/0: found 'afmp_tiny'; allowed: afmp_small, deit_tiny"):
        resolve_study(config)


def test_a_line_adds_one_run(config):
    config["studies"]["sparsity_level"]["runs"].append({"run": "sparse_0.9", "sparsity": 0.9})
    study = resolve_study(config)
    assert len(study.runs) == RUNS + 1
    assert study.studies[0]["members"][-1] == {"run": "sparse_0.9", "label": "sparse_0.9"}


def test_numbers_with_exponent_but_no_dot_are_numbers(config):
    config["training"]["learning_rate"] = yaml.safe_load("3e-4")  # YAML 1.1 reads text here
    assert resolve_study(config).runs["sparse_0.3"].training.learning_rate == 3e-4


def test_whole_numbers_may_be_written_as_floats(config):
    config["training"] |= {"epochs": yaml.safe_load("1e2"), "batch_size": 128.0, "learning_rate": 1}
    config["seeds"] = [0.0, 3.0]
    config["scalability"] |= {"resolutions": [64.0], "repeats": "1e1"}
    config["studies"]["regularisation"]["runs"].append({"run": "deep", "num_layers": 8.0})
    study = resolve_study(config)
    training, sweep = study.runs["deep"].training, study.scalability
    found = [training.epochs, training.batch_size, *study.seeds, *sweep["resolutions"], sweep["repeats"]]
    found.append(study.runs["deep"].model.num_layers)
    assert found == [100, 128, 0, 3, 64, 10, 8]
    assert {type(value) for value in found} == {int} and type(training.learning_rate) is float


def test_text_that_looks_like_a_number_stays_text(config):
    table = config["studies"]["regularisation"]
    table["runs"].append({"run": "1e3", "label": "1e-3", "sparsity": 0.9})
    table |= {"reference": "1e3", "title": "1e5", "section": "2e1"}
    study = resolve_study(config).studies[1]
    assert study["members"][-1] == {"run": "1e3", "label": "1e-3"}
    assert (study["reference"], study["title"], study["section"]) == ("1e3", "1e5", "2e1")


def test_tf32_is_allowed_where_cuda_may_be(config):
    config["training"]["precision"] = "tf32"
    config["scalability"]["precision"] = ["tf32"]
    assert resolve_study(config).scalability["precision"] == ["tf32"]


def test_half_precision_sweep_is_allowed_on_the_cpu_and_tf32_among_others(config):
    config["scalability"] |= {"precision": ["fp16", "tf32"], "device": "cpu"}
    assert resolve_study(config).scalability["precision"] == ["fp16", "tf32"]


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


def _alias_of_two(config):
    config["studies"]["regularisation"]["runs"][1]["run"] = "b"  # sparse_0.3 under another name
    config["studies"]["regularisation"]["reference"] = "b"
    config["studies"]["top_down_refinement"]["runs"].append({"run": "b", "sparsity": 0.9})


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
    "not finite": (_set("training/learning_rate", float("nan")), ["training/learning_rate", "nan", "finite"]),
    "unknown choice": (_set("dataset/source", "mnist"), ["dataset/source", "'mnist'", "cifar100"]),
    "unknown semantics": (_set("semantics", ["papr"]), ["semantics/0", "'papr'", "paper, notebook"]),
    "no semantics": (
        _set("semantics", []),
        ["semantics", "[]", "a list of paper, notebook, length at least 1"],
    ),
    "seed twice": (_set("seeds", [1, 1]), ["seeds", "[1, 1]", "once"]),
    "no seeds": (_set("seeds", []), ["seeds", "[]", "at least 1"]),
    "patch does not divide": (_set("model/patch_size", 7), ["model/patch_size", "7", "32", "1, 2, 4, 8, 16, 32"]),
    "patch of one run": (
        _append_run(run="x", patch_size=5),
        ["run 'x', studies/regularisation/runs/3/patch_size", "5", "16"],
    ),
    "one name, two runs": (
        _append_run(run="dense", sparsity=0.4),
        ["regularisation/runs/3/run", "'dense'", "is_sparse True instead of False", "sparsity_level"],
    ),
    "one name twice in a study": (
        _append_run(run="sparse_0.3", sparsity=0.4),
        ["regularisation/runs/3/run", "'sparse_0.3'", "own name"],
    ),
    "two names, one run": (_append_run(run="again"), ["regularisation/runs/3/run", "'again'", "'sparse_0.3'"]),
    "unknown override": (
        _append_run(run="x", spars=0.4),
        ["run 'x', studies/regularisation/runs/3/spars", "0.4", "sparsity"],
    ),
    "name with a slash": (_append_run(run="a/b", sparsity=0.4), ["runs/3/run", "'a/b'", "letters, digits"]),
    "one name, an alias and another run": (
        _alias_of_two,
        ["top_down_refinement/runs/2/run", "'b'", "sparsity 0.9 instead of 0.3", "studies/regularisation"],
    ),
    "two dense runs": (
        lambda config: config["studies"]["sparsity_level"]["runs"].append(
            {"run": "again", "is_sparse": False, "sparsity": 0.9}
        ),
        ["sparsity_level/runs/6/run", "'again'", "'dense'", "the same run"],
    ),
    "window of no effect": (_append_run(run="again", window_size=3), ["runs/3/run", "'sparse_0.3'", "the same run"]),
    "wrong type of one run": (
        _append_run(run="x", d_model="big"),
        ["run 'x', studies/", "runs/3/d_model", "'big'", "whole number"],
    ),
    "part of an epoch": (_set("training/epochs", 1.5), ["training/epochs", "1.5", "whole number"]),
    "too large for a float": (_set("training/epochs", "1e400"), ["training/epochs", "inf", "finite"]),
    "number as a run": (_append_run(run=0.3, sparsity=0.9), ["runs/3/run", "0.3", "text"]),
    "number as a label": (_append_run(run="x", label=0.3, sparsity=0.9), ["runs/3/label", "0.3", "text"]),
    "number as a reference": (
        _set("studies/regularisation/reference", 1e3),
        ["regularisation/reference", "1000.0", "text"],
    ),
    "number as a path": (_set("dataset/path", 3), ["dataset/path", "3", "text", "null"]),
    "number as a study": (
        lambda config: config["studies"].update({7: config["studies"]["regularisation"]}),
        ["studies", "7", "text"],
    ),
    "no warm-up": (_set("scalability/warmup", 0), ["scalability/warmup", "0", "at least 1"]),
    "tf32 of the sweep": (
        lambda config: config["scalability"].update(precision=["tf32"], device="mps"),
        ["scalability/precision", "'tf32'", "scalability/device", "'mps'", "cuda or auto"],
    ),
    "graphs alone on a CPU": (
        lambda config: config["scalability"].update(execution=["graph", "compiled_graph"], device="cpu"),
        ["scalability/execution", "'graph'", "scalability/device", "'cpu'", "cuda or auto"],
    ),
    "tf32 of training": (
        lambda config: config["training"].update(precision="tf32", device="cpu"),
        ["config: training/precision", "'tf32'", "training/device", "'cpu'", "cuda or auto"],
    ),
    "tf32 of one run": (
        _append_run(run="x", precision="tf32", device="cpu"),
        ["run 'x', studies/regularisation/runs/3/precision", "'tf32'", "regularisation/runs/3/device", "'cpu'"],
    ),
    "figure like a rule that draws": (_set("studies/regularisation/figure", "plot_a"), ["figure", "'plot_a'", "plot_"]),
    "not a mapping": (lambda config: ["paper"], ["the whole file", "['paper']", "mapping"]),
    "no such reference": (
        _set("studies/regularisation/reference", "best"),
        ["regularisation/reference", "'best'", "sparse_0.3"],
    ),
    "misspelt semantics": (_set("semantics", ["papre"]), ["semantics/0", "'papre' (did you mean 'paper'?)"]),
    "misspelt reference": (
        _set("studies/regularisation/reference", "sparse_0.3_lamda_1e-5"),
        ["regularisation/reference", "'sparse_0.3_lamda_1e-5'", "did you mean 'sparse_0.3_lambda_1e-5'?"],
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


@pytest.mark.promise("configuration-mistake")
@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_has_its_message(config, name):
    change, parts = MISTAKES[name]
    replaced = change(config)
    with pytest.raises(AfmpError) as caught:
        resolve_study(replaced if isinstance(replaced, list) else config)
    message = str(caught.value)
    assert message.startswith("config: ") and "\n" not in message
    for part in parts:
        assert part in message, f"{part!r} is not in: {message}"


@pytest.mark.promise("permissions")
@pytest.mark.parametrize("closed", [".", "images"])
@pytest.mark.parametrize("mode", [0, 0o644])
def test_images_in_a_folder_that_may_not_be_entered_are_not_called_missing(config, powerless, closed, mode):
    for split in ("train", "test"):
        (powerless / "images" / split).mkdir(parents=True)
    config["dataset"] |= {"source": "folder", "path": str(powerless / "images")}
    resolve_study(config)
    (powerless / closed).chmod(mode)
    with pytest.raises(AfmpError, match=r"^config: dataset/path: .* may not be entered \(Permission denied\)"):
        resolve_study(config)


def test_a_folder_without_splits_is_refused(config, tmp_path, monkeypatch):
    config["dataset"] |= {"source": "folder", "path": str(tmp_path)}
    with pytest.raises(AfmpError, match="train/<class>/"):
        resolve_study(config)
    monkeypatch.chdir(tmp_path)
    relative = config | {"dataset": config["dataset"] | {"path": "images"}}
    with pytest.raises(AfmpError, match=f"'images' in {tmp_path}: no such folder; give"):
        resolve_study(relative)
    (tmp_path / "image").mkdir()
    with pytest.raises(AfmpError, match=rf"'images' in {tmp_path}: no such folder \(did you mean 'image'\?\); give"):
        resolve_study(relative)
    (tmp_path / "images").mkdir()
    with pytest.raises(AfmpError, match=f"'images' in {tmp_path} contains no train/<class>/"):
        resolve_study(relative)
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert resolve_study(config).dataset.path == str(tmp_path)


def test_home_folder_is_resolved_once(config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for split in ("train", "test"):
        (tmp_path / "images" / split).mkdir(parents=True)
    config["dataset"] |= {"source": "folder", "path": "~/images"}
    study = resolve_study(config)
    assert study.dataset.path == study.runs["dense"].dataset.path == str(tmp_path / "images")


def test_resolving_leaves_its_input_alone(config):
    before = copy.deepcopy(config)
    resolve_study(config)
    assert config == before


@pytest.mark.promise("repeated-key")
def test_a_repeated_key_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  d_model: 1\n  patch_size: 8\n  d_model: 2\n")
    with pytest.raises(AfmpError, match=r"model/d_model appears twice, in lines 2 and 4"):
        read_config(path)


def test_file_that_is_not_yaml_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("model: [1, 2\nseeds: 3")
    with pytest.raises(AfmpError, match="not a YAML file"):
        read_config(path)
