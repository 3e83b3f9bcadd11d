"""`afmp claims`: the verdicts on an archive and on a results folder."""

import shutil
from pathlib import Path

import pandas
import pytest
import yaml
from archived_study import small_config, write_small_archive
from conftest import PROJECT
from finished_study import CLAIMS

from afmp import cli
from afmp.analysis.claim_tables import claims_table
from afmp.analysis.verdicts import holm
from afmp.finished.answered_claims import answered_claims
from afmp.finished.opened_archive import open_archive
from afmp.study.claims import read_claims

ARCHIVE = PROJECT / "archive/2026-11-24-h200"
RESULT = "train/paper/top_down/seed_1/results_top_down.json"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with the results, the archive, the config.yaml and the claims of one small study."""
    folder = tmp_path_factory.mktemp("small")
    write_small_archive(folder, seeds=[0, 1, 2])
    (folder / "config.yaml").write_text(yaml.safe_dump(small_config() | {"seeds": [0, 1, 2]}))
    (folder / "claims.yaml").write_text(yaml.safe_dump(CLAIMS))
    return folder


def say(*words: str | Path, capsys) -> str:
    assert cli.main(["claims", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_the_numbers_are_those_of_the_archived_tables():
    found = claims_table(answered_claims(read_claims(PROJECT / "claims.yaml"), open_archive(ARCHIVE)))
    differences = pandas.read_csv(ARCHIVE / "aggregate/differences.csv").query("metric == 'test_accuracy'")
    differences = differences.set_index(["semantics", "study", "run"])
    of_runs = found.query("quantity == 'test_accuracy' and lacking == ''")
    assert len(of_runs) == 16
    columns = {"effect": "mean_difference", "ci95_low": "ci95_low", "ci95_high": "ci95_high", "n": "n_pairs"}
    for _, row in of_runs.iterrows():
        archived = differences.loc[row["semantics"], row["setting"], row["compared"]]
        for column, name in columns.items():
            assert row[column] == pytest.approx(archived[name], rel=1e-5)
    top_down = of_runs.query("name == 'top_down_helps' and semantics == 'paper'").iloc[0]
    assert top_down["p_value"] == top_down["adjusted_p_value"] == pytest.approx(0.141625, rel=1e-5)
    sparse = of_runs.query("name == 'sparse_as_accurate' and semantics == 'paper'")
    assert list(sparse["adjusted_p_value"]) == pytest.approx(holm(list(sparse["p_value"])))
    ratios = pandas.read_csv(ARCHIVE / "aggregate/scalability_ratios.csv")
    ratios = ratios.query("semantics == 'paper' and mode == 'train' and attention == 'fused'")
    ratios = ratios.set_index(["precision", "execution"])["time_ratio"]
    times = {"faster_as_in_the_notebook": ("fp32", "eager"), "faster_under_graphs": ("bf16", "compiled_graph")}
    for name, setting in times.items():
        shown = list(found[found["name"] == name]["effect"])
        assert shown == pytest.approx(list(ratios.loc[[setting]])[: len(shown)], rel=1e-5)
    verdicts = found.drop_duplicates(["name", "semantics"]).set_index(["name", "semantics"])["claim_verdict"]
    assert verdicts["faster_under_graphs", "paper"] == "holds"
    assert verdicts["less_memory_in_inference", "paper"] == verdicts["memory_grows_more_slowly", "paper"] == "fails"
    assert "as_accurate" not in verdicts  # the archived study is without its runs


def test_results_and_their_archive_have_one_answer(small, capsys):
    claims = ["--claims", small / "claims.yaml"]
    from_results = say(small / "results", *claims, "--config", small / "config.yaml", capsys=capsys)
    assert from_results == say(small / "archive", *claims, capsys=capsys)
    headlines = [line for line in from_results.split("\n\n") if "[" in line]
    *short, reason = say(small / "archive", *claims, "--short", capsys=capsys).splitlines()
    assert reason == from_results.splitlines()[-1] and reason.startswith("This study is too short to answer")
    assert short == [from_results.splitlines()[0], *(block.splitlines()[0] for block in headlines[: len(short) - 1])]
    assert "n = 3 random seeds" in from_results and "DeiT-Tiny / AFMP-Small" in from_results
    assert from_results.startswith("3 verdicts, each on a claim under one semantics: ")


def test_an_unfinished_study_is_answered_as_far_as_it_goes(small, tmp_path, capsys):
    results = Path(shutil.copytree(small / "results", tmp_path / "results"))
    words = [results, "--claims", small / "claims.yaml", "--config", small / "config.yaml"]
    (results / RESULT).unlink()
    assert "n = 2 random seeds" in say(*words, capsys=capsys)
    shutil.rmtree(results / "train/paper/top_down")
    (results / "benchmark_scalability/paper/scalability.json").unlink()
    said = say(*words, capsys=capsys)
    assert "run top_down has no result yet" in said and "there is no sweep under paper" in said


def test_what_is_wrong_is_said_in_one_sentence(small, tmp_path, capsys):
    (tmp_path / "claims.yaml").write_text("claims: {one: {claim: x}}")
    for words, said in (
        (
            [small / "archive", "--claims", tmp_path / "claims.yaml"],
            "yaml: claims/one/quantity",
        ),
        ([small / "archive", "--claims", tmp_path / "none.yaml"], "none.yaml: no such file"),
        ([small / "nothing", "--claims", small / "claims.yaml"], "nothing' is no folder; give a results folder or an"),
    ):
        assert cli.main(["claims", *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and said in err
