"""The workflow, on a copy of the project: end to end on the digits, what reruns after which edit, its mistakes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT

from afmp.records import read_json, read_parameters, read_result, read_scalability

FOLDERS = ("rules", "workflow_scripts", "afmp", "report", "schemas", "profiles", "envs")
PARTS = ("Snakefile", "config.yaml", "README.md", *FOLDERS)

STUDY = {
    "dataset": {"source": "digits", "path": None, "image_size": 32},
    "semantics": ["paper", "notebook"],
    "seeds": [0, 1],
    "model": {"num_layers": 2, "d_model": 8},
    "training": {"epochs": 2, "batch_size": 256, "device": "cpu", "visualize_every": 2, "horizontal_flip": False},
    "studies": {
        "sparsity_level": {
            "section": "7.1",
            "title": "Sparsity level",
            "figure": "comparison_results_full",
            "reference": "dense",
            "runs": [{"run": "dense", "is_sparse": False}, {"run": "sparse_0.3"}],
        },
        "widths": {  # a study of one's own, which names a run of the first again
            "section": "A.1",
            "title": "Widths",
            "figure": "widths",
            "reference": "sparse_0.3",
            "runs": [{"run": "sparse_0.3", "label": "8 channels"}, {"run": "wide", "d_model": 12}],
        },
    },
    "scalability": {"resolutions": [16, 32], "batch_size": 1, "device": "cpu", "warmup": 1, "repeats": 2},
}


def write_study(folder: Path, study: dict) -> None:
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    for section, values in study.items():
        merges = isinstance(values, dict) and section != "studies"
        config[section] = config[section] | values if merges else values
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def copy_project(folder: Path) -> Path:
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder / part)
    (folder / "results").mkdir()
    (folder / "tests").mkdir()
    return folder


def snakemake(folder: Path, *arguments, check=True) -> str:
    """What Snakemake said, on either stream."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0 or not check, said
    return said


def planned(folder: Path) -> dict[str, int]:
    """Jobs that `snakemake all -n` plans, by rule, without the target itself."""
    said = snakemake(folder, "all", "--dry-run")
    stats = said.rsplit("Job stats:", 1)[1] if "Job stats:" in said else ""
    jobs = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}
    assert jobs or "Nothing to be done" in said, said
    return {rule: count for rule, count in jobs.items() if rule not in ("all", "total")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The project after one full run, the report included."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    write_study(folder, STUDY)
    snakemake(folder, "report")
    return folder


@pytest.fixture
def project(finished) -> Path:
    """The finished project; whatever a test edits is put back."""
    before = {path: path.read_bytes() for part in PARTS for path in _files(finished / part)}
    yield finished
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def _files(path: Path) -> list[Path]:
    return [p for p in path.rglob("*") if p.suffix in (".py", ".smk", ".yaml", ".md")] if path.is_dir() else [path]


def test_end_to_end(finished):
    results = finished / "results"
    for semantics in ("paper", "notebook"):
        for run in ("dense", "sparse_0.3", "wide"):
            for seed in (0, 1):
                result = read_result(results / f"train/{semantics}/{run}/seed_{seed}/results_{run}.json")
                assert (result["semantics"], result["run"], result["seed"]) == (semantics, run, seed)
        for figure in ("comparison_results_full", "widths", "scalability_results"):
            for ending in ("png", "pdf"):
                assert (results / f"figures/{semantics}/{figure}.{ending}").stat().st_size > 5000
        points = read_scalability(results / f"benchmark_scalability/{semantics}/scalability.json")["points"]
        assert {(p["model"], p["resolution"]) for p in points} == {
            (model, size) for model in ("afmp_small", "deit_tiny") for size in (16, 32)
        }
        assert (results / f"plot_diagnostics/{semantics}/wide/epoch_0002.png").exists()
    assert (results / "figures/notebook_vs_paper.png").exists()
    models = read_parameters(results / "count_parameters/parameters.json")["models"]
    parameters = {model["model"]: model["num_parameters"] for model in models}
    assert parameters["afmp_small"] == 6_119_913 and parameters["deit_tiny"] == 5_543_716
    # sparse_0.3 stands in both studies and was trained once.
    assert sorted(p.name for p in (results / "train/paper").iterdir()) == ["dense", "sparse_0.3", "wide"]
    epochs = (results / "aggregate/epochs.csv").read_text().splitlines()
    assert len(epochs) == 1 + 2 * 3 * 2 * 2  # header, then semantics x runs x seeds x epochs
    log = (results / "logs/train/paper/wide.log").read_text()
    assert "seed 1: epoch 2/2" in log and "left" in log


def test_report_shows_every_figure_and_table(finished):
    html = (finished / "results/report/report.html").read_text()
    for name in ("comparison_results_full", "widths", "scalability_results", "notebook_vs_paper"):
        assert name in html
    for category in ("7.1 Sparsity level", "A.1 Widths", "Scalability", "Tables", "Diagnostics"):
        assert category in html
    caption = (finished / "results/figures/paper/widths.rst").read_text()
    best = read_json(finished / "results/train/paper/wide/seed_0/results_wide.json")
    assert best["dataset"]["name"] in caption


def test_every_job_left_a_log_and_a_benchmark(finished):
    rules = {p.name for p in (finished / "results/logs").iterdir()}
    assert rules == {p.name for p in (finished / "results/benchmarks").iterdir()}
    assert {"prepare_data", "train", "aggregate", "benchmark_scalability", "plot_widths", "report"} <= rules


def test_nothing_to_do_after_a_full_run(project):
    assert planned(project) == {}


def test_readme_and_tests_rerun_nothing(project):
    (project / "README.md").write_text("changed")
    (project / "tests/test_new.py").write_text("changed")
    assert planned(project) == {}


def test_editing_a_figure_redraws_that_figure_only(project):
    append(project / "afmp/figures/comparison_results_full.py", "\n# edited\n")
    assert planned(project) == {"plot_comparison_results_full": 2}


def test_editing_the_drawing_of_the_sweep_does_not_measure_again(project):
    append(project / "afmp/figures/scalability_results.py", "\n# edited\n")
    assert planned(project) == {"plot_scalability_results": 2}


def test_editing_the_model_retrains(project):
    append(project / "afmp/model.py", "\n# edited\n")
    jobs = planned(project)
    assert jobs["train"] == 6 and jobs["aggregate"] == 1 and "prepare_data" not in jobs
    assert jobs["plot_widths"] == 2 and jobs["benchmark_scalability"] == 2


def test_editing_what_the_model_imports_retrains_too(project):
    append(project / "afmp/message_passing/operation.py", "\n# edited\n")
    assert planned(project)["train"] == 6


def test_changing_one_override_retrains_that_run_only(project):
    study = yaml.safe_load((project / "config.yaml").read_text())
    study["studies"]["widths"]["runs"][1]["d_model"] = 16
    (project / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    jobs = planned(project)
    assert jobs["train"] == 2  # one run, both semantics
    assert jobs["plot_widths"] == 2 and "plot_comparison_results_full" not in jobs
    assert "benchmark_scalability" not in jobs


def test_adding_a_line_adds_only_its_run(project):
    study = yaml.safe_load((project / "config.yaml").read_text())
    study["studies"]["widths"]["runs"].append({"run": "wider", "d_model": 16})
    (project / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    said = snakemake(project, "all", "--dry-run")
    assert planned(project)["train"] == 2
    assert "results/train/paper/wider/seed_0/results_wider.json" in said
    assert "plot_comparison_results_full" not in planned(project)


def test_a_single_figure_is_a_target_by_name_and_by_file(project):
    figure = project / "results/figures/paper/widths.png"
    content = figure.read_bytes()
    figure.unlink()
    said = snakemake(project, "results/figures/paper/widths.png")
    assert figure.read_bytes() == content and "plot_comparison" not in said
    assert "Nothing to be done" in snakemake(project, "widths")
    assert "Nothing to be done" in snakemake(project, "download", "tables")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"model": {"patch_size": 7}}, ["model/patch_size", "7", "1, 2, 4, 8, 16, 32"]),
        ({"model": {"patchsize": 8}}, ["model/patchsize", "unknown key", "patch_size"]),
        ({"seeds": "three"}, ["seeds", "'three'", "a list"]),
    ],
)
def test_mistake_in_the_study_ends_before_any_job(tmp_path, change, parts):
    folder = copy_project(tmp_path)
    write_study(folder, STUDY | change)
    said = snakemake(folder, "all", check=False)
    for part in parts:
        assert part in said
    assert "Traceback" not in said and "rule " not in said
    assert not list((folder / "results").iterdir())


def test_run_named_twice_in_yaml_ends_before_any_job(tmp_path):
    folder = copy_project(tmp_path)
    write_study(folder, STUDY)
    append(folder / "config.yaml", "\nseeds: [5]\n")
    said = snakemake(folder, "all", check=False)
    assert "seeds stands twice" in said and "Traceback" not in said
