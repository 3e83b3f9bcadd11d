"""Ranges: a rerun of an archived study is compared with them, and they are those that the archive gives."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from finished_study import STUDY, finish_study
from lies import GPU, edit, gone, pipe, read, replaced, text
from verified import lines
from workflow_runs import copy_project, start_snakemake, write_study

from afmp.cli import main
from afmp.errors import AfmpError
from afmp.finished.archive import write_archive
from afmp.finished.expected import accuracy_range, read_expected
from afmp.study.study import read_study


def archive_of(project: Path, change=lambda results: None, **config) -> Path:
    """Archive the study with its ranges, after a change of its results and of top keys of its configuration."""
    archive, results = project / "archive/2026-01-02-h100", project / "changed"
    shutil.copytree(project / "results", results)
    change(results)
    study = yaml.safe_load((project / "config.yaml").read_text()) | config
    write_archive(study, results=results, archive=archive)
    shutil.rmtree(results)
    assert main(["expect", str(archive)]) == 0
    return archive


def ranges_line(project: Path) -> str:
    (line,) = {line for line in lines(project) if "ranges of" in line}
    return line


def accuracies_higher(results: Path) -> None:
    for path in results.glob("train/paper/top_down/*/results*"):
        edit(path, test_accuracy=read(path)["test_accuracy"] + 40)


def other_sweep(*, factor: float = 1.0, name: str = GPU["name"], model: str = "afmp_small"):
    """Return a change of every sweep: the times of an AFMP by a factor, and the name of the device."""

    def change(results: Path) -> None:
        for path in results.glob("benchmark_scalability/*/scalability.json"):
            content = read(path)
            for point in content["points"]:
                if point["model"] == model:
                    point["time_ms"]["median"] *= factor
            edit(path, points=content["points"], device=content["device"] | {"name": name})

    return change


def of_another_rate(results: Path) -> None:
    for path in results.glob("train/*/*/*/results*"):
        config = read(path)["config"]
        edit(path, config=config | {"training": config["training"] | {"learning_rate": 0.5}})


@pytest.mark.promise("hostile-configuration")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)), "values"),
        ("test_accuracy: &m {paper: *m}", "line 1: test_accuracy/.*: a value that contains itself"),
        ("test_accuracy: [" + "[" * 1000, "line 1, column .*nested too deeply"),
    ],
)
def test_ranges_are_read_as_a_configuration_is(tmp_path, content, message):
    (tmp_path / "expected.yaml").write_text(content)
    with pytest.raises(AfmpError, match=message):
        read_expected(tmp_path / "expected.yaml")


@pytest.mark.promise("rerun-in-range")
def test_a_study_is_within_the_ranges_of_its_own_archive(study_to_break):
    archive = archive_of(study_to_break)
    assert ranges_line(study_to_break) == f"PASS  ranges of {archive}/expected.yaml"
    expected = read_expected(archive / "expected.yaml")
    results = (study_to_break / "results").glob("train/paper/top_down/*/results*")
    paper = expected["test_accuracy"]["paper"]["top_down"]
    assert (
        paper["n"] == 3 and paper["low"] <= np.mean([read(path)["test_accuracy"] for path in results]) <= paper["high"]
    )
    assert set(expected["scalability"]["paper"]["ratios"]) == {"train"}
    assert set(expected["scalability"]["paper"]["refined_ratios"]) == {"train"}


@pytest.mark.promise("rerun-in-range")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (accuracies_higher, r"top_down \[paper\]: mean test accuracy \d\d\.\d\d %, expected [\d.]+ to [\d.]+ %"),
        (other_sweep(factor=0.5), r"sweep \[notebook\], train: DeiT-Tiny / AFMP-Small in time \d\.\d+, expected \d"),
        (
            other_sweep(factor=0.5, model="afmp_refined_small"),
            r"sweep \[paper\], train: DeiT-Tiny / AFMP-refined-Small in time \d\.\d+, expected \d",
        ),
    ],
)
def test_a_number_outside_its_range_fails(study_to_break, change, says):
    archive = archive_of(study_to_break, change)
    line = ranges_line(study_to_break)
    assert line.startswith(f"FAIL  ranges of {archive}/expected.yaml: ") and re.search(says, line)


@pytest.mark.promise("rerun-in-range")
def test_a_seed_that_is_missing_is_no_rerun(study_to_break):
    archive_of(study_to_break)
    (study_to_break / "results/train/paper/top_down/seed_1/results_top_down.json").unlink()
    says = r"top_down \[paper\]: mean test accuracy of 3 seeds expected, but 2 have a valid result"
    assert re.search(says, ranges_line(study_to_break))


@pytest.mark.promise("rerun-in-range")
def test_ranges_of_another_study_or_device_are_not_applied(study_to_break):
    training = yaml.safe_load((study_to_break / "config.yaml").read_text())["training"]
    archive = archive_of(study_to_break, of_another_rate, training=training | {"learning_rate": 0.5})
    not_applied = f"SKIP  ranges of {archive}/expected.yaml: this study is not the archived one"
    assert ranges_line(study_to_break) == not_applied

    shutil.rmtree(archive)
    archive_of(study_to_break, other_sweep(factor=0.5, name="NVIDIA H200"))
    assert ranges_line(study_to_break) == f"PASS  ranges of {archive}/expected.yaml"


def emptied(archive: Path) -> None:
    expected = yaml.safe_load((archive / "expected.yaml").read_text())
    (archive / "expected.yaml").write_text(yaml.safe_dump(expected | {"test_accuracy": {}, "scalability": {}}))


def widened(archive: Path) -> None:
    expected = yaml.safe_load((archive / "expected.yaml").read_text())
    expected["test_accuracy"]["paper"]["top_down"] |= {"low": 0.0, "high": 100.0}
    (archive / "expected.yaml").write_text(yaml.safe_dump(expected))


@pytest.mark.promise("rerun-in-range")
@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (emptied, "expected.yaml: not the ranges that its archive gives"),
        (widened, "expected.yaml: not the ranges that its archive gives"),
        (
            replaced("expected.yaml", "format_version: 1", "format_version: 2"),
            "expected.yaml: expected file of format 2",
        ),
        (replaced("study.json", "0.001", "0.5"), "study.json: not the file that MANIFEST.json names"),
        (gone("MANIFEST.json"), "no finished archive: it has study.json, but no MANIFEST.json"),
        (pipe("expected.yaml"), "expected.yaml: is a pipe"),
        (text("expected.yaml", "[" * 5_000), "expected.yaml: not a YAML file"),
    ],
)
def test_ranges_that_are_not_those_of_their_archive_fail(study_to_break, lie, says):
    lie(archive_of(study_to_break, accuracies_higher))
    line = ranges_line(study_to_break)
    assert line.startswith("FAIL  ranges of ") and says in line


def test_an_archive_of_this_study_without_ranges_says_so(study_to_break):
    gone("expected.yaml")(archive_of(study_to_break))
    assert re.fullmatch(
        r"SKIP  ranges of \S+: there are none; `afmp expect \S+` writes them", ranges_line(study_to_break)
    )


@pytest.mark.long
def test_the_workflow_applies_the_ranges_of_its_own_archives_and_of_the_clones(study_to_break):
    project = study_to_break
    clone, own = archive_of(project), project / "own"
    own.mkdir()
    (project / "results").rename(own / "results")
    shutil.copytree(clone, own / "archive/mine")
    process = start_snakemake(project, "verify", "--cores", "1", "--directory", str(own))
    said, _ = process.communicate()
    assert process.returncode == 0, said
    for archive in ("archive/mine", "../archive/2026-01-02-h100"):
        assert f"PASS  ranges of {archive}/expected.yaml" in said


@pytest.mark.promise("range-by-chance")
def test_of_a_thousand_reruns_one_lies_outside_its_range():
    accuracies = np.random.default_rng(0).normal(60, 0.4, (10_000, 2, 5))
    outside = 0
    for archived, again in accuracies:
        allowed = accuracy_range(archived.tolist())
        outside += not allowed["low"] <= again.mean() <= allowed["high"]
    assert 3 <= outside <= 20


def test_a_study_of_two_seeds_and_one_semantics_passes_but_gives_no_ranges(
    tmp_path, digits_file, figures_drawn_once, capsys
):
    folder = copy_project(tmp_path)
    write_study(folder, STUDY | {"seeds": [0, 1], "semantics": ["paper"]})
    finish_study(folder / "results", read_study(folder / "config.yaml"), digits_file)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    write_archive(config, results=folder / "results", archive=folder / "archive/one")
    assert main(["expect", str(folder / "archive/one")]) == 2
    assert "archive/one: a study of 2 seeds does not show" in capsys.readouterr().err
    assert not [line for line in lines(folder) if line.startswith("FAIL")]
