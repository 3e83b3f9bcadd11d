"""Verification: a finished study passes; a file that is missing, changed, outdated or misplaced is named."""

import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from archived_study import replace_file
from finished_study import STUDY, finish_study
from safetensors import safe_open
from safetensors.torch import load_file
from workflow_runs import copy_project, start_snakemake, write_study

from afmp.cli import main
from afmp.errors import AfmpError
from afmp.finished.archive import write_archive
from afmp.finished.expected import accuracy_range, read_expected
from afmp.finished.verify import verify
from afmp.records import with_checksum
from afmp.study.study import read_study, resolve_study
from afmp.training.checkpoint import save_weights

RESULT = "train/paper/top_down/seed_1/results_top_down.json"
BEST = "train/paper/top_down/seed_1/best.safetensors"
FIGURE = "figures/paper/comparison_topdown_vs_no"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits_file) -> Path:
    """A project with a finished study."""
    folder = copy_project(tmp_path_factory.mktemp("finished"))
    write_study(folder, STUDY)
    finish_study(folder / "results", read_study(folder / "config.yaml"), digits_file)
    return folder


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy, with the same file times, that a test may break."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


def lines(project: Path) -> list[str]:
    """Return the lines that `verify` prints for a project, with paths below results/."""
    said = []
    config = yaml.safe_load((project / "config.yaml").read_text())
    results = project / "results"
    dataset = results / "prepare_data/digits.safetensors"
    try:
        verify(config, results=results, dataset=dataset, archives=[project / "archive"], say=said.append)
        assert not [line for line in said if line.startswith("FAIL")]
    except AfmpError as error:
        assert re.search(r"results: \d+ of \d+ checks failed", str(error))
    return [line.replace(f"{results}/", "") for line in said]


def failed(project: Path) -> list[str]:
    return [line.removeprefix("FAIL  ") for line in lines(project) if line.startswith("FAIL")]


def rewrite(path: Path, text: str) -> None:
    """Write other content under the same file time."""
    times = path.stat()
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def edit(path: Path, **changes) -> None:
    """Change a record and its checksum, so that only contradictions reveal the change."""
    rewrite(path, json.dumps(with_checksum(read(path) | changes)))


def read(path: Path) -> dict:
    content = json.loads(path.read_text())
    content.pop("checksum", None)
    return content


def snapshot(folder: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.promise("verify-changes-nothing")
def test_a_finished_study_passes_every_check_and_is_not_changed(finished):
    before = snapshot(finished)
    said = lines(finished)
    assert snapshot(finished) == before
    assert {line[:6] for line in said[:-1]} == {"PASS  "}
    assert said[-1] == f"{len(said) - 1} checks: {len(said) - 1} passed, 0 failed"
    for semantics in ("paper", "notebook"):
        for run in ("top_down", "sparse_0.3", "sparse_0.4"):
            for kind in ("results", "diagnostics", "weights"):
                assert f"PASS  {kind} of {run} [{semantics}], 3 seeds" in said
    assert "PASS  one scaffold hash in 12 results (delaunay, 32 px, patches of 8 px)" in said
    assert "PASS  one scaffold hash in 6 results (window 2, 32 px, patches of 8 px)" in said
    tables = ("epochs", "summary", "differences", "parameters")
    tables += ("scalability", "scalability_ratios", "scalability_fits")
    assert {f"PASS  table {table}, computed again" for table in tables} <= set(said)


def change_table(results: Path) -> None:
    path = results / "aggregate/summary.csv"
    head, row, *rest = path.read_text().splitlines(keepends=True)
    cells = row.split(",")
    cells[head.split(",").index("test_accuracy_mean")] = "99.5"
    path.write_text("".join([head, ",".join(cells), *rest]))


def other_weights(results: Path, path: str, change) -> None:
    with safe_open(results / path, framework="pt") as file:
        about = file.metadata()
    weights = load_file(results / path)
    change(weights)
    save_weights(results / path, weights, metadata=about)


def spoil(weights: dict) -> None:
    weights["embed.weight"][0, 0] = float("nan")


def widen(weights: dict) -> None:
    weights["embed.weight"] = torch.zeros(16, 192)


def move_a_patch(weights: dict) -> None:
    weights["static_positions"][0] += 0.01


def age(path: Path, *, than: Path) -> None:
    time = than.stat().st_mtime_ns - 10**9
    os.utime(path, ns=(time, time))


def change_history(results: Path) -> None:
    history = read(results / RESULT)["training_history"]
    edit(results / RESULT, training_history=history | {"val_acc": [99.0, *history["val_acc"][1:]]})


def shorten_history(results: Path) -> None:
    history = read(results / RESULT)["training_history"]
    edit(results / RESULT, training_history={key: values[:2] for key, values in history.items()})


def change_config(results: Path) -> None:
    config = read(results / RESULT)["config"]
    edit(results / RESULT, config=config | {"training": config["training"] | {"learning_rate": 0.5}})


def add_a_key(results: Path) -> None:
    config = read(results / RESULT)["config"]
    edit(results / RESULT, config=config | {"model": config["model"] | {"num_heads": 3}})


def change_dataset(results: Path) -> None:
    edit(results / RESULT, dataset=read(results / RESULT)["dataset"] | {"hash": "a" * 64})


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def sweep_of(results: Path, semantics: str) -> Path:
    return results / f"benchmark_scalability/{semantics}/scalability.json"


# Per name: the change of results/, and a pattern for each line that then fails.
NOT_AGAIN = [
    r"table (epochs|summary|differences), .*not computed again, because 1 of its 18 sources failed, first " + RESULT
] * 3
NO_SWEEP_TABLE = [r"not computed again, because 1 of its 3 sources"] * 4
FAULTS = {
    "a missing result": (
        lambda results: (results / RESULT).unlink(),
        [f"{RESULT}: no such file", "weights .*seed 1: not checked, because it has no valid result", *NOT_AGAIN],
    ),
    "a result that is no JSON": (
        lambda results: rewrite(results / RESULT, "{"),
        [f"{RESULT}: not a JSON file", "seed 1: not checked", *NOT_AGAIN],
    ),
    "a result against its schema": (
        lambda results: edit(results / RESULT, best_epoch=0),
        [f"{RESULT}: not a valid result file: best_epoch", "seed 1: not checked", *NOT_AGAIN],
    ),
    "a result of another seed": (
        lambda results: edit(results / RESULT, seed=7),
        [f"{RESULT}: seed is 7, its path says 1", *NOT_AGAIN],
    ),
    "a result of another run": (
        lambda results: edit(results / RESULT, run="other"),
        [f"{RESULT}: run is 'other', its path says 'top_down'", *NOT_AGAIN],
    ),
    "a result of the other semantics": (
        lambda results: edit(results / RESULT, semantics="notebook"),
        [
            f"{RESULT}: semantics is 'notebook', its path says 'paper'",
            f"{RESULT}: validation_set is 'train_holdout', its semantics says 'test'",
            *NOT_AGAIN,
        ],
    ),
    "a result of another configuration": (
        change_config,
        [f"{RESULT}: config/training/learning_rate is 0.5, the study says 0.001", *NOT_AGAIN],
    ),
    "a result with a key that the study lacks": (
        add_a_key,
        [f"{RESULT}: config/model/num_heads is 3, the study says None", *NOT_AGAIN],
    ),
    "a best accuracy that is not its history's": (
        lambda results: edit(results / RESULT, best_val_accuracy=99.0),
        [rf"{RESULT}: best_val_accuracy is 99.0, its history says \d+", *NOT_AGAIN],
    ),
    "a digit changed by hand": (
        lambda results: rewrite(
            results / RESULT, re.sub(r'"test_accuracy": [0-9]', '"test_accuracy": 9', (results / RESULT).read_text())
        ),
        [
            f"{RESULT}: damaged or edited: it does not match its own checksum",
            "it has no valid result",
            *NOT_AGAIN,
        ],
    ),
    "an epoch changed by hand": (
        change_history,
        [
            f"{RESULT}: best_val_accuracy is .*, its history says 99.0",
            f"{RESULT}: best_epoch is 3, its history says 1",
            *NOT_AGAIN,
        ],
    ),
    "an epoch that is missing": (
        shorten_history,
        [f"{RESULT}: training_history/train_loss has 2 epochs, the study says 3", *NOT_AGAIN],
    ),
    "a test accuracy changed by hand": (
        lambda results: edit(results / RESULT, test_accuracy=99.0),
        [
            r"aggregate/summary.csv: line 2, test_accuracy_mean: '[\d.]+', '[\d.]+' computed",
            "aggregate/differences.csv: ",
        ],
    ),
    "another number in a table": (
        change_table,
        ["aggregate/summary.csv: line 2, test_accuracy_mean: '99.5', '"],
    ),
    "a row too many in a table": (
        lambda results: (results / "aggregate/epochs.csv").open("a").write("paper,other,0,1,1,1,1,1,1\n"),
        ["aggregate/epochs.csv: 56 lines, 55 computed"],
    ),
    "a cell too many in a table": (
        lambda results: rewrite(
            results / "aggregate/epochs.csv", (results / "aggregate/epochs.csv").read_text().rstrip() + ",1\n"
        ),
        ["aggregate/epochs.csv: line 55 has 10 cells, 9 computed"],
    ),
    "a table that is no text": (
        lambda results: (results / "aggregate/epochs.csv").write_bytes(b"\xff"),
        ["aggregate/epochs.csv: not a CSV file"],
    ),
    "a missing table": (
        lambda results: (results / "aggregate/scalability_fits.csv").unlink(),
        ["aggregate/scalability_fits.csv: no such file"],
    ),
    "another dataset hash": (
        change_dataset,
        [
            rf"one dataset hash in 18 results: {RESULT}: a{{12}}, but [0-9a-f]{{12}} in 17 of 18",
            "prepare_data/digits.safetensors: its hash is [0-9a-f]+, a result says aaaaaaaaaaaa",
        ],
    ),
    "a damaged dataset": (
        lambda results: damage(results / "prepare_data/digits.safetensors"),
        ["the dataset file.*prepare_data/digits.safetensors: is damaged"],
    ),
    "another scaffold hash": (
        lambda results: edit(results / RESULT, scaffold_hash="b" * 64),
        [
            f"{BEST}: scaffold_hash is '.*', its result says 'bbbb",
            f"{BEST.replace('best', 'final')}: scaffold_hash is '.*', its result says 'bbbb",
            rf"one scaffold hash in 12 results.*: {RESULT}: b{{12}}, but [0-9a-f]{{12}} in 11 of 12",
        ],
    ),
    "a figure older than a result": (
        lambda results: age(results / f"{FIGURE}.pdf", than=results / RESULT),
        [rf"{FIGURE}, newer than its data: {FIGURE}\.pdf: older than train/paper/"],
    ),
    "a missing figure": (
        lambda results: (results / "figures/notebook_vs_paper.png").unlink(),
        ["figures/notebook_vs_paper.png: no such file"],
    ),
    "a figure older than its sweep": (
        lambda results: age(results / "figures/notebook/scalability_fits.png", than=sweep_of(results, "notebook")),
        [r"figures/notebook/scalability_fits\.png: older than benchmark_scalability/"],
    ),
    "a missing picture of diagnostics": (
        lambda results: (results / "plot_diagnostics/notebook/sparse_0.3/epoch_0002.png").unlink(),
        ["plot_diagnostics/notebook/sparse_0.3/epoch_0002.png: no such file"],
    ),
    "all pictures of a run missing": (
        lambda results: shutil.rmtree(results / "plot_diagnostics/notebook/sparse_0.3"),
        [r"epoch_0002.png: no such file; .*; plot_\S+/epoch_0003.png: no such file; and 1 more$"],
    ),
    "diagnostics of other epochs": (
        lambda results: edit(
            results / "train/notebook/sparse_0.3/seed_0/diagnostics.json",
            epochs={"3": read(results / "train/notebook/sparse_0.3/seed_0/diagnostics.json")["epochs"]["3"]},
        ),
        [r"train/notebook/sparse_0.3/seed_0/diagnostics.json: has epochs \[3\], the study says \[2, 3\]"],
    ),
    "missing weights": (lambda results: (results / BEST).unlink(), [f"{BEST}: no such file"]),
    "cut weights": (
        lambda results: os.truncate(results / BEST, 3000),
        [f"{BEST}: damaged, or no safetensors file"],
    ),
    "weights that are not finite": (
        lambda results: other_weights(results, BEST, spoil),
        [f"{BEST}: embed.weight contains NaN or infinite numbers"],
    ),
    "weights of another shape": (
        lambda results: other_weights(results, BEST, widen),
        [f"{BEST}: of another architecture: embed.weight"],
    ),
    "weights of another scaffold": (
        lambda results: other_weights(results, BEST, move_a_patch),
        [f"{BEST}: scaffold_hash is"],
    ),
    "weights of another seed": (
        lambda results: shutil.copy(results / BEST.replace("seed_1", "seed_0"), results / BEST),
        [f"{BEST}: seed is 0, it should be 1"],
    ),
    "another count of parameters": (
        lambda results: edit(results / RESULT, num_parameters=5),
        [
            rf"{BEST}: num_parameters is \d+, its result says 5",
            r"final.safetensors: num_parameters is \d+, its result says 5",
            "aggregate/summary.csv: line 2, num_parameters",
        ],
    ),
    "a sweep of the other semantics": (
        lambda results: edit(sweep_of(results, "paper"), semantics="notebook"),
        [r"sweep \[paper\]: .*semantics is 'notebook', its path says 'paper'", *NO_SWEEP_TABLE],
    ),
    "a sweep of another protocol": (
        lambda results: edit(
            sweep_of(results, "paper"), protocol=read(sweep_of(results, "paper"))["protocol"] | {"repeats": 3}
        ),
        [r"sweep \[paper\]: .*repeats is 3, the study says 10", *NO_SWEEP_TABLE],
    ),
    "a sweep that lacks a size": (
        lambda results: edit(
            sweep_of(results, "paper"),
            points=[p for p in read(sweep_of(results, "paper"))["points"] if p["resolution"] != 224],
        ),
        [r"sweep \[paper\]: .*has resolutions \[64, 128\], the study says \[64, 128, 224\]", *NO_SWEEP_TABLE],
    ),
    "parameter counts of other classes": (
        lambda results: edit(results / "count_parameters/parameters.json", num_classes=7),
        ["parameters.json: num_classes is 7, the study says 100", *NO_SWEEP_TABLE],
    ),
    "missing parameter counts": (
        lambda results: (results / "count_parameters/parameters.json").unlink(),
        ["count_parameters/parameters.json: no such file", *NO_SWEEP_TABLE],
    ),
}


@pytest.mark.promise("verify-fails-by-name")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_and_names_its_file(project, fault):
    inject, expected = FAULTS[fault]
    inject(project / "results")
    found = failed(project)
    for pattern in set(expected):
        matching = [line for line in found if re.search(pattern, line)]
        assert len(matching) >= expected.count(pattern), (pattern, found)
    assert [line for line in found if not any(re.search(pattern, line) for pattern in expected)] == []


@pytest.mark.promise("verify-fails-by-name")
def test_a_rewritten_result_makes_its_figures_outdated(project):
    (project / "results" / RESULT).touch()
    drawn = {re.match(r"(\S+), newer", line)[1] for line in failed(project) if f"older than {RESULT};" in line}
    assert drawn == {FIGURE, "figures/notebook_vs_paper"}


def archive_of(project: Path, *, ranges: dict | None = None) -> Path:
    """Make an archive of the project's study with its expected.yaml, in which `ranges` replace some ranges."""
    archive = project / "archive/2026-01-02-h100"
    config = yaml.safe_load((project / "config.yaml").read_text())
    write_archive(config, results=project / "results", archive=archive)
    assert main(["expect", str(archive)]) == 0
    expected = yaml.safe_load((archive / "expected.yaml").read_text())
    (archive / "expected.yaml").write_text(yaml.safe_dump(expected | (ranges or {})))
    return archive


def ranges_line(project: Path) -> list[str]:
    return [line for line in lines(project) if "ranges of" in line]


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
def test_a_study_is_within_the_ranges_of_its_own_archive(project):
    archive = archive_of(project)
    assert ranges_line(project) == [f"PASS  ranges of {archive}/expected.yaml"]
    expected = read_expected(archive / "expected.yaml")
    accuracies = [read(path)["test_accuracy"] for path in (project / "results").glob("train/paper/top_down/*/results*")]
    paper = expected["test_accuracy"]["paper"]["top_down"]
    assert paper["n"] == 3 and paper["low"] <= np.mean(accuracies) <= paper["high"]
    assert set(expected["scalability"]["paper"]["ratios"]) == {"train"}


@pytest.mark.promise("rerun-in-range")
@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        (
            {"test_accuracy": {"paper": {"top_down": {"n": 3, "mean": 90.0, "low": 89.5, "high": 90.5}}}},
            r"top_down \[paper\]: mean test accuracy \d\d\.\d\d %, expected 89.5 to 90.5 %",
        ),
        (
            {"test_accuracy": {"paper": {"top_down": {"n": 5, "mean": 30.0, "low": 0.0, "high": 99.0}}}},
            r"top_down \[paper\]: mean test accuracy of 5 seeds expected, but 3 have a valid result",
        ),
        (
            {
                "scalability": {
                    "notebook": {
                        "device": "NVIDIA H100 80GB HBM3",
                        "ratios": {"train": {key: {"low": 9.0, "high": 9.5} for key in ("time", "peak_memory")}},
                    }
                }
            },
            r"sweep \[notebook\], train: DeiT-Tiny / AFMP-Small in time \d\.\d+, expected 9.0 to 9.5",
        ),
        ({"format_version": 2}, r"expected.yaml: expected file of format 2"),
    ],
)
def test_a_number_outside_its_range_fails(project, ranges, says):
    archive = archive_of(project, ranges=ranges)
    found = ranges_line(project)
    assert all(line.startswith(f"FAIL  ranges of {archive}/expected.yaml: ") for line in found)
    assert any(re.search(says, line) for line in found)


@pytest.mark.promise("rerun-in-range")
def test_ranges_of_another_study_or_device_are_not_applied(project):
    impossible = {"test_accuracy": {"paper": {"top_down": {"n": 3, "mean": 90.0, "low": 89.5, "high": 90.5}}}}
    archive = archive_of(project, ranges=impossible)
    config = yaml.safe_load((archive / "config.yaml").read_text())
    config["training"]["learning_rate"] = 0.5
    replace_file(archive, "config.yaml", yaml.safe_dump(config).encode())
    replace_file(archive, "study.json", json.dumps(asdict(resolve_study(config))).encode())
    not_applied = f"SKIP  ranges of {archive}/expected.yaml: this study is not the archived one"
    assert ranges_line(project) == [not_applied]

    shutil.rmtree(archive)
    ratios = {"train": {key: {"low": 9.0, "high": 9.5} for key in ("time", "peak_memory")}}
    archive_of(project, ranges={"scalability": {"paper": {"device": "NVIDIA H200", "ratios": ratios}}})
    assert ranges_line(project) == [f"PASS  ranges of {archive}/expected.yaml"]


def test_the_workflow_applies_the_ranges_of_its_own_archives_and_of_the_clones(project):
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


def test_a_study_of_two_seeds_and_one_semantics_passes_but_gives_no_ranges(tmp_path, digits_file, capsys):
    folder = copy_project(tmp_path)
    write_study(folder, STUDY | {"seeds": [0, 1], "semantics": ["paper"]})
    finish_study(folder / "results", read_study(folder / "config.yaml"), digits_file)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    write_archive(config, results=folder / "results", archive=folder / "archive/one")
    assert main(["expect", str(folder / "archive/one")]) == 2
    assert "archive/one: a study of 2 seeds does not show" in capsys.readouterr().err
    assert not [line for line in lines(folder) if line.startswith("FAIL")]


def test_the_command_prints_the_lines_and_fails_with_them(project, capsys):
    results = str(project / "results")
    arguments = ["verify", results, "--config", str(project / "config.yaml")]
    arguments += ["--dataset", f"{results}/prepare_data/digits.safetensors", "--archives", str(project / "archive")]
    assert main(arguments) == 0
    assert "FAIL" not in capsys.readouterr().out
    (project / "results" / BEST).unlink()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert (
        f"FAIL  weights of top_down [paper], 3 seeds: {results}/{BEST}: no such file; give a file of weights"
        in said.out
    )
    assert re.search(r"afmp verify: .*: 1 of \d+ checks failed; ", said.err)


@pytest.mark.promise("verify-fails-by-name")
def test_the_workflow_checks_without_making_anything(project):
    (project / "results" / RESULT).unlink()
    (project / "results" / f"{FIGURE}.png").unlink()
    before = snapshot(project / "results")
    process = start_snakemake(project, "verify", "--cores", "1")
    said, _ = process.communicate()
    assert process.returncode != 0 and "Traceback" not in said
    assert f"FAIL  results of top_down [paper], 3 seeds: results/{RESULT}: no such file\n" in said
    assert f"results/{FIGURE}.png: no such file" in said
    assert re.search(r"^45 checks: 39 passed, 6 failed$", said, re.MULTILINE)
    assert said.count("FAIL  ") == 6
    checks = (project / "results/logs/verify/checks.txt").read_text()
    assert checks.count("PASS  ") == 39 and checks.count("FAIL  ") == 6
    assert checks.splitlines() == re.findall("^(?:PASS  |FAIL  |45 checks).*", said, re.MULTILINE)
    assert re.findall(r"^(?:local)?rule (\w+):", said, re.MULTILINE) == ["verify"]
    made = {path for path, time in snapshot(project / "results").items() if before.get(path) != time}
    assert {path.name for path in made} <= {"logs", "verify", "verify.log", "checks.txt"}
