"""Mistakes in the configuration, seen through Snakemake: one sentence, no job, no traceback, nothing written."""

import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT
from workflow_runs import append, copy_project, snakemake

from afmp.machine.memory import host_bytes
from afmp.study.study import resolve_study

SHIPPED = (PROJECT / "config.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return copy_project(tmp_path_factory.mktemp("project"))


def changed(old: str, new: str) -> str:
    assert old in SHIPPED
    return SHIPPED.replace(old, new, 1)


MISTAKES = {
    "tab": (
        changed("  d_model", "\td_model"),
        [],
        r"config\.yaml: not a YAML file: line \d+, column 1: found character '\\t'",
    ),
    "cut off": (
        SHIPPED[: SHIPPED.index("window_size: 8") + 5],
        [],
        r"config\.yaml: not a YAML file: line \d+, column \d+: ",
    ),
    "no such day": (
        changed('section: "7.1"', "section: 2026-02-30"),
        [],
        r"config\.yaml: line \d+: studies/sparsity_level/section: found '2026-02-30', which YAML cannot read",
    ),
    "leading zero": (
        changed("[0, 1, 2, 3, 4]", "[010]"),
        [],
        r"config\.yaml: line \d+: seeds/0: found 010, .* plain digits",
    ),
    "endless": (
        changed("model:\n", "model: &model\n  more: *model\n"),
        [],
        r"config\.yaml: line \d+: model/more.*a value that contains itself",
    ),
    "not a mapping": ("- paper\n", [], r"config\.yaml: found \['paper'\]; allowed: a mapping"),
    "studies a number": (SHIPPED[: SHIPPED.index("studies:")] + "studies: 5\n", [], "config: scalability: missing"),
    "name without end": (
        changed("{run: dense, label: Dense", "{run: " + 40 * "x"),
        [],
        "config: studies/sparsity_level/runs/0/run: found 'x+'; allowed: .* 20 times",
    ),
    "archive a list": (SHIPPED, ["--config", "archive=[a, b]"], r"config: archive: found \['a', 'b'\]; allowed: text"),
    "--config": (
        SHIPPED,
        ["--config", "training={epochs: 0}"],
        "config: training/epochs: found 0; allowed: a whole number",
    ),
    "--config, no key": (
        SHIPPED,
        ["--config", "training.epochs=1e9"],
        r"Error: --config: found \['training\.epochs=1e9'\]; allowed: key=value",
    ),
    "--configfile": (
        SHIPPED,
        ["--configfile", "overlay.yaml"],
        r"overlay\.yaml: model/d_model appears twice, in lines 1 and 2",
    ),
    "--configfile, no YAML": (
        SHIPPED,
        ["--configfile", "broken.yaml"],
        r"Error: broken\.yaml: not a YAML file: line 2, column 1: ",
    ),
    "--configfile, its second": (
        SHIPPED,
        ["--configfiles", "empty.json", "laughs.yaml"],
        r"Error: laughs\.yaml: line 1: .*more than 100,000 values",
    ),
    "--configfile, code": (SHIPPED, ["--configfile=code.yaml"], r"Error: code\.yaml: __use_yte__: Snakemake would run"),
}

# Mappings of mappings by aliases: Snakemake itself would take hours to merge them.
LAUGHS = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}\n" for i in range(1, 9)
)
OVERLAYS = {
    "overlay.yaml": "model: {d_model: 1,\n  d_model: 2}\n",
    "broken.yaml": "model: [\n",
    "empty.json": "{}",
    "laughs.yaml": LAUGHS,
    "code.yaml": '__use_yte__: true\nseeds: \'?[open("ran", "w").fileno()]\'\n',
}


# These end as "tab" does; tests/study/ has more of their kind without Snakemake.
REPEATS = ("cut off", "no such day", "leading zero", "endless")


@pytest.mark.promise("mistake-ends-in-one-sentence", "hostile-configuration")
@pytest.mark.parametrize(
    "mistake", [pytest.param(name, marks=pytest.mark.long if name in REPEATS else ()) for name in MISTAKES]
)
def test_a_mistake_ends_in_one_sentence_before_any_job(project, mistake):
    text, arguments, message = MISTAKES[mistake]
    (project / "config.yaml").write_text(text, encoding="utf-8")
    for name, content in OVERLAYS.items():
        (project / name).write_text(content)
    said = snakemake(project, "all", *arguments, check=False)
    assert len(re.findall(message, said)) == 1, said
    assert "Traceback" not in said and "rule " not in said and "Building DAG" not in said
    assert re.match("Error: ", said.splitlines()[-1]) and ".smk" not in said, said
    assert not list((project / "results").iterdir()) and not (project / "ran").exists()


@pytest.mark.promise("mistake-ends-in-one-sentence")
def test_a_mistake_in_claims_ends_in_one_sentence_before_any_job(project, tmp_path):
    """The claims in the working directory go before those of the project."""
    (project / "config.yaml").write_text(SHIPPED, encoding="utf-8")
    claims = yaml.safe_load((project / "claims.yaml").read_text(encoding="utf-8"))
    claims["claims"]["top_down_helps"]["expect"] = "better"
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(claims))
    said = snakemake(project, "all", "--directory", tmp_path, check=False)
    message = "/claims.yaml: claims/top_down_helps/expect: found 'better'; allowed: higher, lower, equal"
    assert said.count(message) == 1 and "Traceback" not in said and "Building DAG" not in said
    claims["claims"]["top_down_helps"] |= {"expect": "higher", "runs": ["sparse_0.3_topdown"]}
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump(claims))
    said = snakemake(project, "all", "--directory", tmp_path, "--dry-run", check=False)
    message = (
        "claims/top_down_helps/runs: found 'sparse_0.3_topdown', which this study does not have (did you mean 'sparse"
    )
    assert said.count(message) == 1 and "Traceback" not in said and "Building DAG" not in said
    (tmp_path / "claims.yaml").unlink()
    assert "answer_claims" in snakemake(project, "claims", "--directory", tmp_path, "--dry-run")


@pytest.mark.promise("huge-studies")
def test_a_model_that_this_machine_cannot_hold_ends_before_any_job(project):
    (project / "config.yaml").write_text(SHIPPED, encoding="utf-8")
    # 208 GB for one random seed: more than a computer under a desk has.
    sizes = {"model": {"num_layers": 64, "d_model": 8192}, "training": {"device": "cpu"}, "seeds": [0]}
    (project / "large.json").write_text(json.dumps(sizes | {"dataset": {"source": "digits"}}))
    target = "results/train/paper/dense/seed_0/results_dense.json"
    if host_bytes() > 208e9:
        pytest.skip("this machine could hold the model")
    said = snakemake(project, target, "--configfile", "large.json", check=False)
    assert len(re.findall("run 'dense': training takes at least 208.* GB of memory .* this machine has", said)) == 1, (
        said
    )
    assert "Traceback" not in said and ".smk" not in said and not (project / "results/prepare_data").exists()
    assert not list((project / ".snakemake").glob("locks/*"))  # the next call may start


@pytest.mark.promise("escaped-texts")
def test_a_report_that_would_write_a_name_as_html_is_refused(project):
    """Snakemake writes names as they are between <script> tags; the target `report` makes them text."""
    (project / "config.yaml").write_text(changed("label: Dense", "label: 'a </script>'"), encoding="utf-8")
    said = snakemake(project, "--report", "report.html", check=False)
    assert len(re.findall("--report: a name or label of this study contains <", said)) == 1, said
    assert "Traceback" not in said and not (project / "report.html").exists()


def test_numbers_and_flags_on_the_command_line_mean_what_they_say(project):
    """Snakemake passes every value inside `--config key={...}` as text."""
    (project / "config.yaml").write_text(SHIPPED, encoding="utf-8")
    values = ["training={epochs: 3, learning_rate: 1e-2, horizontal_flip: false}", "seeds=[7]"]
    snakemake(project, "count_parameters", "--config", *values, "--dry-run")
    config = yaml.safe_load(SHIPPED)
    config["training"] |= {"epochs": "3", "learning_rate": "1e-2", "horizontal_flip": "false"}
    training = resolve_study(config | {"seeds": ["7"]}).runs["dense"].training
    assert (training.epochs, training.learning_rate, training.horizontal_flip) == (3, 0.01, False)


def test_an_overlay_in_json_can_be_written_as_yaml(project):
    """The report and the archive write the configuration as YAML, with its runs in the same order."""
    (project / "config.yaml").write_text(SHIPPED, encoding="utf-8")
    runs = [{"run": "b", "sparsity": 0.9}, {"run": "a", "sparsity": 0.8}]
    table = {"section": "A", "title": "T", "reference": "b", "runs": runs}
    studies = {name: table | {"figure": name.lower()} for name in ("Zeta", "Alpha")}
    (project / "overlay.json").write_text(json.dumps({"studies": studies}))
    snakefile = (project / "Snakefile").read_text()
    append(
        project / "Snakefile",
        "\nimport yaml\nPath('written.yaml').write_text(yaml.safe_dump(config, sort_keys=False))\n",
    )
    try:
        snakemake(project, "count_parameters", "--configfile", "overlay.json", "--dry-run")
    finally:
        (project / "Snakefile").write_text(snakefile)
    written = yaml.safe_load((project / "written.yaml").read_text())
    assert list(written["studies"])[-2:] == ["Zeta", "Alpha"] and written["studies"]["Zeta"]["runs"] == runs
