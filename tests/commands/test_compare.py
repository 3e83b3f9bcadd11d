"""`afmp compare`: the numbers of an archive and of a results folder, and one sentence for what cannot be compared."""

import re
import shutil
from functools import cache
from pathlib import Path

import pandas
import pytest
import yaml
from archived_study import small_config, write_small_archive
from conftest import PROJECT

from afmp import cli
from afmp.records import read_result, write_result

ARCHIVE = PROJECT / "archive/2026-11-24-h200"
RESULT = "train/paper/top_down/seed_1/results_top_down.json"
NUMBER = r"\s*([+-]?\d+\.\d+)"
TRIPLE = rf"{NUMBER} \[{NUMBER},{NUMBER}\]"
LINE = re.compile(
    rf".*\((?P<run>\S+)\) +(?P<semantics>\w+) +(?P<parameters>[\d,]+) +(?P<n>\d+) +{TRIPLE}"
    rf"(?: +{TRIPLE} +(?P<p>\S+)| +reference)"
)


def compared(*words: str | Path, capsys) -> str:
    assert cli.main(["compare", *map(str, words)]) == 0
    return capsys.readouterr().out


def refusal(*words: str | Path, capsys) -> str:
    assert cli.main(["compare", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


@cache
def archived_table(name: str) -> pandas.DataFrame:
    return pandas.read_csv(ARCHIVE / f"aggregate/{name}.csv")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with the results, the archive and the config.yaml of one small study."""
    folder = tmp_path_factory.mktemp("small")
    write_small_archive(folder, seeds=[0, 1, 2])
    (folder / "config.yaml").write_text(yaml.safe_dump(small_config() | {"seeds": [0, 1, 2]}))
    return folder


@pytest.mark.parametrize("study", ["sparsity_level", "regularisation", "top_down_refinement"])
def test_the_numbers_are_those_of_the_archived_tables(study, capsys):
    out = compared(ARCHIVE, study, capsys=capsys)
    found = {(match["semantics"], match["run"]): match for match in map(LINE.fullmatch, out.split("\n")) if match}
    summary = archived_table("summary").query("study == @study").set_index(["semantics", "run"])
    differences = archived_table("differences").query("study == @study and metric == 'test_accuracy'")
    differences = differences.set_index(["semantics", "run"])
    assert list(found) == list(summary.index)
    for key, match in found.items():
        row, values = summary.loc[key], [value and float(value) for value in match.groups()[4:10]]
        columns = ["test_accuracy_mean", "test_accuracy_ci95_low", "test_accuracy_ci95_high"]
        # The table has two decimals, and the CSV file six digits.
        assert values[:3] == pytest.approx(row[columns].tolist(), abs=0.0051)
        assert (int(match["n"]), match["parameters"]) == (row["n"], f"{row['num_parameters']:,}")
        assert (match["p"] is None) == (key not in differences.index)
        if match["p"]:
            paired = differences.loc[key]
            expected = paired[["mean_difference", "ci95_low", "ci95_high"]].tolist()
            assert values[3:] == pytest.approx(expected, abs=0.0051)
            assert float(match["p"]) == pytest.approx(paired["p_value"], rel=0.051)
    assert "Test set: 10,000 images of cifar100. Device: NVIDIA H200. Commit: cab449e39f68 with uncommitted" in out


def test_another_reference_and_one_semantics(capsys):
    options = ("--reference", "sparse_0.2", "--semantics", "paper")
    out = compared(ARCHIVE, "sparsity_level", *options, capsys=capsys)
    found = {match["run"]: match for match in map(LINE.fullmatch, out.split("\n")) if match}
    # In differences.csv, sparse_0.2 minus dense: 8.894 [0.157, 17.631].
    assert [float(value) for value in found["dense"].groups()[7:10]] == [-8.89, -17.63, -0.16]
    assert found["sparse_0.2"]["p"] is None and "run minus sparse_0.2, paired by random seed" in out
    assert "notebook" not in out.replace("original notebook", "")


def test_results_and_their_archive_give_one_table(small, capsys):
    of_results = compared(small / "results", "top_down_refinement", "--config", small / "config.yaml", capsys=capsys)
    # A run without a label has its name alone.
    assert re.findall(r"^top_down +(\w+) ", of_results, re.MULTILINE) == ["paper", "notebook"]
    assert compared(small / "archive", "top_down_refinement", capsys=capsys) == of_results


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "{small}/archive sparsity",
            r"STUDY: 'sparsity' is no study of \S+config.yaml; allowed: top_down_refinement\.",
        ),
        ("{small}/archive top_down_refinement --reference dense", r"--reference: 'dense' is .*; allowed: top_down, sp"),
        ("{small}/archive top_down_refinement --semantics refined", r"--semantics: .* 'refined'; allowed: paper, note"),
        ("{small}/nothing top_down_refinement", r"FOLDER: '\S+nothing' is no folder; give a results folder or an ar"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(small, words, message, capsys):
    said = refusal(*words.format(small=small).split(), capsys=capsys)
    assert re.match(f"afmp compare: {message}", said)


def test_a_study_that_is_not_finished_is_not_compared(small, tmp_path, capsys):
    results = shutil.copytree(small / "results", tmp_path / "results")
    (results / RESULT).unlink()
    words = (results, "top_down_refinement", "--config", small / "config.yaml")
    said = refusal(*words, capsys=capsys)
    assert f"{results / RESULT}: no such file; the study is not finished: `snakemake all`" in said
    compared(*words, "--semantics", "notebook", capsys=capsys)  # which does not need it


def test_a_result_of_another_configuration_is_refused(small, tmp_path, capsys):
    results = shutil.copytree(small / "results", tmp_path / "results")
    result = read_result(results / RESULT)
    result["config"]["training"]["learning_rate"] = 0.5
    write_result(results / RESULT, result)
    said = refusal(results, "top_down_refinement", "--config", small / "config.yaml", capsys=capsys)
    assert f"{results / RESULT}: computed with another configuration: config/training/learning_rate" in said
