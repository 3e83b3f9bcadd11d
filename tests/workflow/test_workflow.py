"""The workflow on a copy of the project: end to end on the digits, reruns after edits, mistakes in the study."""

import html
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from workflow_runs import (
    PARTS,
    STUDY,
    append,
    copy_project,
    planned,
    planned_jobs,
    snakemake,
    start_snakemake,
    wait_for,
    write_study,
)

from afmp.records import read_diagnostics, read_parameters, read_result, read_scalability


@pytest.fixture(scope="module")
def finished(finished_workflow, tmp_path_factory) -> Path:
    """The project after one full run, including the report."""
    return shutil.copytree(finished_workflow, tmp_path_factory.mktemp("finished") / "project", symlinks=True)


@pytest.fixture
def project(finished) -> Path:
    """The finished project; edits of a test are undone after it."""
    before = {path: path.read_bytes() for part in PARTS for path in _files(finished / part)}
    yield finished
    for path, content in before.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def _files(path: Path) -> list[Path]:
    return (
        [p for p in path.rglob("*") if p.suffix in (".py", ".smk", ".yaml", ".md", ".rst")] if path.is_dir() else [path]
    )


def test_end_to_end(finished):
    results = finished / "results"
    for semantics in ("paper", "notebook"):
        for run in ("dense", "sparse_0.3", "wide"):
            for seed in (0, 1):
                result = read_result(results / f"train/{semantics}/{run}/seed_{seed}/results_{run}.json")
                assert (result["semantics"], result["run"], result["seed"]) == (semantics, run, seed)
        for figure in ("comparison_results_full", "widths", "scalability_results", "scalability_fits"):
            for ending in ("png", "pdf"):
                assert (results / f"figures/{semantics}/{figure}.{ending}").stat().st_size > 5000
        points = read_scalability(results / f"benchmark_scalability/{semantics}/scalability.json")["points"]
        assert {(p["model"], p["resolution"]) for p in points} == {
            (model, size) for model in ("afmp_small", "deit_tiny", "afmp_refined_small") for size in (16, 32)
        }
        assert (results / f"plot_diagnostics/{semantics}/wide/epoch_0002.png").exists()
    assert (results / "figures/notebook_vs_paper.png").exists()
    models = read_parameters(results / "count_parameters/parameters.json")["models"]
    parameters = {model["model"]: model["num_parameters"] for model in models}
    assert parameters["afmp_small"] == 6_119_913 and parameters["deit_tiny"] == 5_543_716
    assert parameters["afmp_refined_small"] == 1_939_722
    # sparse_0.3 is in both studies and was trained once.
    assert sorted(p.name for p in (results / "train/paper").iterdir()) == ["dense", "sparse_0.3", "wide"]
    epochs = (results / "aggregate/epochs.csv").read_text().splitlines()
    assert len(epochs) == 1 + 2 * 3 * 2 * 2  # header, then semantics x runs x seeds x epochs
    claims = (results / "claims.md").read_text()
    assert (
        "| sparse\\_as\\_accurate | paper | sparse\\_0.3 | dense | test accuracy: sparsity\\_level | cannot tell |"
        in claims
    )
    assert "| 2 |  | at least 3 random seeds |" in claims
    log = (results / "logs/train/paper/wide.log").read_text()
    assert "seed 1: epoch 2/2" in log and "left" in log


@pytest.mark.promise("verify-changes-nothing")
def test_a_study_made_by_the_workflow_passes_verification(finished):
    try:
        said = snakemake(finished, "verify", "--cores", "1")
    finally:
        shutil.rmtree(finished / "results/logs/verify", ignore_errors=True)  # not part of the full run
    count = len(re.findall(r"^PASS  ", said, re.MULTILINE))
    assert f"\n{count} checks: {count} passed, 0 failed, 0 could not be made\n" in said and count > 40


def test_report_shows_every_figure_and_table(finished):
    page = (finished / "results/report/report.html").read_text()
    figures = ("comparison_results_full", "widths", "scalability_results", "scalability_fits", "notebook_vs_paper")
    for name in figures:
        assert name in page
    for category in ("7.1 Sparsity level", "A.1 Widths", "Scalability", "Tables", "Claims", "Diagnostics"):
        assert category in page
    first = (finished / "results/report/index.html").read_text()
    for name in figures:
        assert f'-{name}"' in first
    for title in ("7.1 Sparsity level", "A.1 Widths", "Time and memory", "Diagnostics", "How to cite"):
        assert title in first


def test_the_report_opens_on_the_verdicts_and_every_item_says_of_what_it_is(finished):
    page = (finished / "results/report/report.html").read_text()
    data = {
        name: json.loads(re.search(rf'<script id="{name}">\n *var \w+ = (.*);$', page, re.MULTILINE)[1])
        for name in ("results", "categories", "workflow-desc", "metadata")
    }
    # Snakemake's page sorts by text.
    menu = [category.strip("\u2060 ") for category in sorted(data["categories"])]
    studies = [f"{study['section']} {study['title']}" for study in STUDY["studies"].values()]
    assert menu == ["Claims", *studies, "Paper and notebook", "Tables", "Scalability", "Diagnostics"]
    labels = {path: result["labels"] for path, result in data["results"].items()}
    assert labels["results/plot_diagnostics/paper/wide/epoch_0002.png"] == {
        "epoch": " 2", "run": "wide", "semantics": "paper", "random seed": "0", "layers": "0 to 1", "quantity": "gates",
    }  # fmt: skip
    for category, groups in data["categories"].items():
        for paths in groups.values():
            # Two items with the same labels would be one. By the first label alone, the page makes no switch.
            assert len({tuple(labels[path].values()) for path in paths}) == len(paths), category
        if "Diagnostics" in category:
            runs = [
                f"{semantics}, {run}" for semantics in STUDY["semantics"] for run in ("dense", "sparse_0.3", "wide")
            ]
            assert [name.strip() for name in sorted(groups)] == runs
    # No parameters of jobs, which contain whole studies.
    assert not [path for path, result in data["results"].items() if result["job_properties"]["params"]]
    assert data["metadata"]
    opening = html.unescape(re.sub(r"<[^>]+>|\s+", " ", data["workflow-desc"]))
    assert "open index.html" in " ".join(opening.split())
    answered = pd.read_csv(finished / "results/claims.csv")["claim"]
    assert len(answered) > 0
    assert all(claim in " ".join(opening.split()) for claim in answered)


def test_every_caption_of_the_report_contains_its_numbers(finished):
    page = (finished / "results/report/report.html").read_text()
    found = re.findall(r'"caption": ("(?:[^"\\]|\\.)*")', page)
    captions = [html.unescape(re.sub(r"<[^>]+>|\s+", " ", json.loads(caption))) for caption in found]
    assert len(captions) == 2 * 4 + 1 + 8 + 2 * 3  # figures, notebook_vs_paper, tables, diagnostics
    assert all(re.search(r"\d", caption) and "{{" not in caption for caption in captions)

    def one_says(*parts):
        assert [c for c in captions if all(part in c for part in parts)], (parts, captions)

    one_says("6,119,913", "5,543,716", f"{6_119_913 / 5_543_716:.3f}")
    one_says("24 rows", "3 runs", "2 epochs each")
    for semantics in ("paper", "notebook"):
        runs = {}
        for path in sorted((finished / f"results/train/{semantics}").glob("*/*/results_*.json")):
            result = read_result(path)
            runs.setdefault(result["run"], []).append(result["test_accuracy"])
        low, high = sorted(max(runs.values(), key=np.mean))
        best = f"{low:.2f} %, equal for all seeds" if low == high else f"{low:.2f} and {high:.2f} %"
        one_says("3 runs with 2 seeds", f"under {semantics} semantics: {best}")
        # Rounded, because equal differences vary in their last bits.
        low, high = sorted(np.subtract(runs["wide"], runs["sparse_0.3"]).round(9))
        one_says("reference", "wide", f"{low:+.2f} points" if low == high else f"{low:+.2f} and {high:+.2f} points")
        points = read_scalability(finished / f"results/benchmark_scalability/{semantics}/scalability.json")["points"]
        times = {p["model"]: p["time_ms"]["median"] for p in points if p["resolution"] == 32}
        ratios = [
            f"DeiT-Tiny / {name} = {times['deit_tiny'] / times[model]:.2f} in time"
            for model, name in (("afmp_small", "AFMP-Small"), ("afmp_refined_small", "AFMP-refined-Small"))
        ]
        one_says(f"{semantics.capitalize()} semantics on", "6 points, 0 out of memory", *ratios)
        record = read_diagnostics(finished / f"results/train/{semantics}/wide/seed_0/diagnostics.json")
        gates = np.array(record["epochs"]["2"]["mean_gate"][1])
        one_says("run wide, seed 0, at epoch 2", f"{semantics} semantics", f"mean gate of {gates.mean():.3f}")


def test_every_job_left_a_log_and_a_benchmark(finished):
    rules = {p.name for p in (finished / "results/logs").iterdir()}
    assert rules == {p.name for p in (finished / "results/benchmarks").iterdir()}
    assert {"prepare_data", "train", "aggregate", "benchmark_resolution", "plot_widths", "report"} <= rules


def test_nothing_to_do_after_a_full_run_and_edits_that_change_no_number(project):
    (project / "README.md").write_text("changed")
    (project / "tests/test_new.py").write_text("changed")
    append(project / "afmp/log.py", "\n# edited\n")
    append(project / "afmp/study/paths.py", "\n# edited\n")
    assert planned(project) == {}


def test_editing_a_figure_redraws_that_figure_only(project):
    append(project / "afmp/figures/comparison_results_full.py", "\n# edited\n")
    assert planned(project) == {"plot_comparison_results_full": 2, "manifest": 1}


def test_editing_the_drawing_of_the_sweep_does_not_measure_again(project):
    append(project / "afmp/figures/scalability_results.py", "\n# edited\n")
    assert planned(project) == {"plot_scalability_results": 2, "manifest": 1}


def test_editing_the_model_retrains(project):
    append(project / "afmp/model/afmp.py", "\n# edited\n")
    jobs = planned(project)
    assert jobs["train"] == 6 and jobs["aggregate"] == 1 and "prepare_data" not in jobs
    assert jobs["plot_widths"] == 2 and jobs["benchmark_resolution"] == 2


def test_editing_what_the_model_imports_retrains_too(project):
    append(project / "afmp/message_passing/weights.py", "\n# edited\n")
    assert planned(project)["train"] == 6


def test_editing_how_tables_are_written_writes_the_tables_again(project):
    append(project / "afmp/analysis/table_files.py", "\n# edited\n")
    assert planned(project) == {"aggregate": 1, "tabulate_scalability": 1, "answer_claims": 1, "manifest": 1}


def test_editing_a_template_of_the_report_writes_only_the_report_again(project):
    append(project / "report/summary.rst", "\nMore.\n")
    assert planned(project, "report") == {"report": 1}


def test_changing_one_override_retrains_that_run_only(project):
    study = yaml.safe_load((project / "config.yaml").read_text())
    study["studies"]["widths"]["runs"][1]["d_model"] = 16
    (project / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    jobs = planned(project)
    assert jobs["train"] == 2  # one run, both semantics
    assert jobs["plot_widths"] == 2 and "plot_comparison_results_full" not in jobs
    assert "benchmark_resolution" not in jobs


def test_adding_a_line_adds_only_its_run(project):
    study = yaml.safe_load((project / "config.yaml").read_text())
    study["studies"]["widths"]["runs"].append({"run": "wider", "d_model": 16})
    (project / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    said = snakemake(project, "all", "--dry-run")
    jobs = planned_jobs(said)
    assert jobs["train"] == 2 and "plot_comparison_results_full" not in jobs
    # Why a job runs, in a line that can be read: the parameters of the figure alone have kilobytes.
    assert re.search("Set of input files has changed since last execution(;|$)", said, re.MULTILINE)
    assert "Params have changed since last execution: " in said and max(map(len, said.splitlines())) < 800
    assert "results/train/paper/wider/seed_0/results_wider.json" in said


def test_adding_a_size_measures_that_size_only(project):
    study = yaml.safe_load((project / "config.yaml").read_text())
    study["scalability"]["resolutions"].append(48)
    (project / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    said = snakemake(project, "scalability_results", "--dry-run")
    assert planned_jobs(said) == {
        "benchmark_resolution": 1,
        "benchmark_scalability": 1,
        "plot_scalability_results": 2,
        "scalability_results": 1,
    }
    assert "results/benchmark_resolution/paper/48.json" in said


def test_sizes_are_timed_in_parallel_if_there_are_gpus_for_them(project):
    study = yaml.safe_load((project / "config.yaml").read_text())
    study["scalability"] |= {"resolutions": [48, 64], "device": "auto"}
    (project / "config.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for gpus, cores_each in ((1, 8), (2, 4)):
        at_once = ("--cores", "8", "--resources", f"gpu={gpus}")
        said = snakemake(project, "scalability_results", "--dry-run", *at_once)
        assert re.findall(r"threads: (\d+)", said) == [str(cores_each)] * 2


def test_a_study_in_an_overlay_shares_a_finished_run(project, tmp_path):
    # `same` is the same computation as sparse_0.3, which is trained: nothing is trained, and the name stays.
    table = {"section": "A.2", "title": "Shared", "figure": "shared", "reference": "same"}
    runs = [{"run": "same", "sparsity": 0.3}]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"studies": {"shared": table | {"runs": runs}}}))
    said = snakemake(project, "shared", "--dry-run", "--configfile", str(overlay))
    assert "plot_shared" in said and "rule train" not in said


def test_a_single_figure_is_a_target_by_name_and_by_file(project):
    figure = project / "results/figures/paper/widths.png"
    content = figure.read_bytes()
    figure.unlink()
    said = snakemake(project, "results/figures/paper/widths.png")
    assert figure.read_bytes() == content and "plot_comparison" not in said
    assert "Nothing to be done" in snakemake(project, "widths", "download", "tables")


@pytest.mark.promise("verified-before-written")
@pytest.mark.long
def test_a_report_of_edited_results_is_not_written(project):
    page, report = project / "results/aggregate/summary.html", project / "results/report/report.html"
    kept, before = page.read_bytes(), report.read_bytes()
    page.write_text("better numbers")
    try:
        said = snakemake(project, "report", check=False)
        assert "nothing is written, because 1 checks of" in said and "Traceback" not in said
        assert "FAIL  table summary, computed again: results/aggregate/summary.html: line 1 is 'better numbers'" in said
        assert not report.exists() or report.read_bytes() == before
    finally:
        page.write_bytes(kept)


def test_a_mistake_in_how_deep_to_verify_ends_before_any_job(project):
    for option, says in (
        ("deep=maybe", "config: deep: found 'maybe'"),
        ("spot=2", "config: spot: found 2, but only a"),
    ):
        said = snakemake(project, "verify", "--config", option, check=False)
        assert says in said and "rule " not in said and "Traceback" not in said


@pytest.mark.promise("configuration-mistake")
@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"model": {"patch_size": 7}}, ["model/patch_size", "7", "1, 2, 4, 8, 16, 32"]),
        pytest.param(
            {"model": {"patchsize": 8}}, ["model/patchsize", "unknown key", "patch_size"], marks=pytest.mark.long
        ),
        pytest.param({"seeds": "three"}, ["seeds", "'three'", "a list"], marks=pytest.mark.long),
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


@pytest.mark.promise("repeated-key")
def test_a_repeated_key_ends_before_any_job(tmp_path):
    folder = copy_project(tmp_path)
    write_study(folder, STUDY)
    append(folder / "config.yaml", "\nseeds: [5]\n")
    said = snakemake(folder, "all", check=False)
    assert "seeds appears twice" in said and "Traceback" not in said


def test_one_semantics_is_enough(tmp_path):
    folder = copy_project(tmp_path)
    write_study(folder, STUDY | {"semantics": ["paper"]})
    jobs = planned(folder)
    assert jobs["train"] == 3 and jobs["plot_widths"] == 1 and "plot_notebook_vs_paper" not in jobs
    said = snakemake(folder, "notebook_vs_paper", "--dry-run", check=False)
    assert said.endswith(
        "\nError: config: semantics: found ['paper'], but notebook_vs_paper draws the same runs under both; "
        "allowed with it: [paper, notebook].\n"
    )


@pytest.mark.long
def test_changed_new_and_removed_images_are_read_again(tmp_path):
    images = tmp_path / "images"
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (images / place).mkdir(parents=True)
        for index in range(4):
            save_image(images / place / f"{index}.png", brightness=40 * index)
    (tmp_path / "project").mkdir()
    folder = copy_project(tmp_path / "project")
    write_study(folder, STUDY | {"dataset": {"source": "folder", "path": str(images), "image_size": 32}})
    snakemake(folder, "download")
    assert planned(folder, "download") == {}
    read_again = {"prepare_data": 1, "download": 1}

    changed = images / "train/cat/1.png"
    before, times = changed.read_bytes(), changed.stat()
    save_image(changed, brightness=200)
    assert planned(folder, "download") == read_again
    changed.write_bytes(before)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    (images / "train/cat/.hidden").touch()
    assert planned(folder, "download") == {}

    save_image(images / "test/dog/new.png", brightness=100)
    assert planned(folder, "download") == read_again
    (images / "test/dog/new.png").unlink()
    (images / "test/dog/0.png").unlink()
    assert planned(folder, "download") == read_again


def save_image(path: Path, *, brightness: int) -> None:
    Image.new("RGB", (32, 32), (brightness, brightness, brightness)).save(path)


@pytest.mark.promise("killed-workflow-resumes")
@pytest.mark.long
def test_a_killed_workflow_resumes(tmp_path):
    epochs = 20
    study = STUDY | {
        "semantics": ["paper"],
        "seeds": [0],
        "training": STUDY["training"] | {"epochs": epochs, "visualize_every": epochs},
        "studies": {"one": STUDY["studies"]["sparsity_level"] | {"runs": [{"run": "dense", "is_sparse": False}]}},
    }
    result = "results/train/paper/dense/seed_0/results_dense.json"
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        write_study(copy_project(tmp_path / name), study)
    # In process groups of their own: the kill then reaches Snakemake and its jobs, and not this test.
    killed, whole = (start_snakemake(tmp_path / name, result, start_new_session=True) for name in ("killed", "whole"))
    try:
        wait_for(lambda: list((tmp_path / "killed/results/checkpoints").rglob("*.safetensors")), killed)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert not (tmp_path / "killed" / result).exists()
        snakemake(tmp_path / "killed", "--unlock")
        snakemake(tmp_path / "killed", result)
        log = (tmp_path / "killed/results/logs/train/paper/dense.log").read_text()
        after = int(re.search(rf"continues after epoch (\d+) of {epochs}", log)[1])
        assert 1 <= after < epochs and f"epoch {after}/" not in log
        said, _ = whole.communicate()
        assert whole.returncode == 0, said
        (of_call,) = (tmp_path / "whole/.snakemake/log").glob("*.log")
        said = of_call.read_text()
        assert "\nJob 0: rule train: dense [paper], log: results/logs/train/paper/dense.log\nReason: Missing" in said
        assert "afmp/model/afmp.py" not in said and "Finished jobid: 0 (Rule: train)" in said
    finally:
        for process in (killed, whole):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    one, other = (read_result(tmp_path / name / result) for name in ("killed", "whole"))
    for key in ("train_loss", "train_acc", "val_acc", "sparsity_loss"):
        assert one["training_history"][key] == other["training_history"][key]
    assert one["test_accuracy"] == other["test_accuracy"]
