"""The overlay my_images.yaml, and what an overlay leaves out, seen through Snakemake."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import PROJECT
from image_folders import plain_colour
from workflow_runs import copy_project, planned_jobs, run, snakemake

SIZES = """
training: {device: cpu}
seeds: [0]
studies: {my_images: {defaults: {num_layers: 1, d_model: 8, epochs: 2, warmup_epochs: 1}}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project beside a folder of two classes."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "project").mkdir()
    copy_project(folder / "project")
    shutil.copy(PROJECT / "my_images.yaml", folder / "project")
    for number, name in enumerate(("apple", "pear")):
        for index in range(10):
            path = folder / "my_images" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            plain_colour(20 * index, 200 * number).save(path)
    (folder / "project/sizes.yaml").write_text(f"dataset: {{path: {folder}/my_images}}\n{SIZES}")
    return folder / "project"


def arguments(*more: str) -> list[str]:
    return [*more, "--configfile", "my_images.yaml", "sizes.yaml"]


def test_my_images_plans_one_run_and_nothing_of_the_paper(project):
    jobs = planned_jobs(snakemake(project, "all", *arguments("--dry-run")))
    assert jobs == {
        "prepare_data": 1, "train": 1, "aggregate": 1, "plot_my_images": 1, "plot_diagnostics": 1, "manifest": 1,
        "answer_claims": 1,
    }  # fmt: skip


def test_a_class_without_images_ends_the_call_before_any_job(project):
    (empty := project.parent / "my_images/plum").mkdir()
    code, said = run(project, "all", *arguments("--dry-run"))
    empty.rmdir()
    assert code == 1 and said.rstrip().splitlines()[-1].startswith(f"Error: {empty}: there are no images of this class")


@pytest.mark.long
def test_a_figure_of_the_sweep_is_refused_in_one_sentence(project):
    code, said = run(project, "scalability_fits", *arguments("--dry-run"))
    assert code == 1 and said.rstrip().splitlines()[-1].startswith("Error: config: scalability: found null, so ")


@pytest.mark.long
def test_my_images_is_trained_drawn_and_verified(project):
    snakemake(project, "report", *arguments())
    assert (project / "results/report/report.html").exists()
    caption = (project / "results/figures/refined/my_images.rst").read_text()
    assert (
        (project / "results/claims.rst").read_text().startswith("15 claims are left out: this study has none of their ")
    )
    assert r"dataset my\_images (test images: 20 % of each class, drawn with seed 0)" in caption
    assert re.search(r"checks: 1\d passed, 0 failed", snakemake(project, "verify", *arguments()))


@pytest.mark.promise("configuration-mistake")
def test_a_misspelt_study_is_not_removed_without_a_word(project):
    (project / "wrong.yaml").write_text("studies: {mesages: null}")
    code, said = run(project, "all", "--dry-run", "--configfile", "wrong.yaml")
    assert (
        code == 1 and "studies/mesages: null removes a study, but there is no study of this name (did you mean" in said
    )


def test_a_run_that_is_trained_under_another_name_is_named(project):
    table = "{section: A, title: T, figure: own, reference: mine, runs: [{run: mine, sparsity: 0.5, label: Mine}]}"
    (project / "own.yaml").write_text(f"{{dataset: {{source: digits}}, studies: {{own: {table}}}}}")
    said = snakemake(project, "download", "--dry-run", "--configfile", "own.yaml")
    assert "Run 'mine' has the settings of run 'sparse_0.5': it is trained once, and its files have the name" in said
