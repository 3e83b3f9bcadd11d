"""Tables of a study: rows, order, pairing, and the cells of runs with one random seed."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT
from scipy import stats
from synthetic_results import STUDIES, synthetic_result, synthetic_results

from afmp.analysis.metrics import SUMMARY_METRICS
from afmp.analysis.study_tables import (
    differences_caption,
    differences_table,
    epochs_caption,
    epochs_table,
    summary_caption,
    summary_table,
)
from afmp.analysis.table_files import write_csv
from afmp.errors import AfmpError

DENSE_AND_TWO = [{**STUDIES[0], "members": STUDIES[0]["members"][:3]}]


def test_a_run_is_also_compared_with_the_run_that_it_names():
    members = [dict(member) for member in STUDIES[0]["members"]]
    members[2]["compare_with"] = members[1]["run"]
    table = differences_table(synthetic_results(), [STUDIES[0] | {"members": members}])
    own = table[(table["run"] == members[2]["run"]) & (table["metric"] == "test_accuracy")]
    assert own["reference"].tolist()[:2] == ["dense", members[1]["run"]]
    plain = differences_table(synthetic_results(), STUDIES[:1])
    assert len(table) > len(plain)


def test_epochs_table_does_not_depend_on_the_order_of_results():
    results = synthetic_results(seeds=range(2), epochs=4) + synthetic_results(
        semantics="notebook", seeds=[1, 0], epochs=3
    )
    table = epochs_table(results)
    assert list(table.columns) == [
        "semantics",
        "run",
        "seed",
        "epoch",
        "train_loss",
        "train_acc",
        "val_acc",
        "sparsity_loss",
        "time_s",
    ]
    assert len(table) == 9 * 2 * (4 + 3)
    assert table.equals(epochs_table(results[::-1]))
    assert table["semantics"].iloc[0] == "paper"
    one = table.query("semantics == 'notebook' and run == 'top_down' and seed == 1")
    history = synthetic_result("top_down", semantics="notebook", seed=1, epochs=3)["training_history"]
    assert one["epoch"].tolist() == [1, 2, 3]
    assert one["val_acc"].tolist() == history["val_acc"]
    assert one["time_s"].tolist() == history["time"]


def test_summary_table_has_mean_and_interval_of_each_run():
    results = synthetic_results(seeds=range(3)) + synthetic_results(semantics="notebook", seeds=range(3))
    table = summary_table(results, STUDIES)
    assert table[["semantics", "study", "run"]].values.tolist() == [
        [semantics, study["name"], member["run"]]
        for semantics in ("paper", "notebook")
        for study in STUDIES
        for member in study["members"]
    ]
    row = table.query("semantics == 'paper' and run == 'sparse_0.3'").iloc[0]
    runs = [synthetic_result("sparse_0.3", seed=seed) for seed in range(3)]
    values = [run["test_accuracy"] for run in runs]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert row["n"] == 3 and row["label"] == "Sparse 0.3"
    assert row["test_accuracy_mean"] == pytest.approx(np.mean(values))
    assert row["test_accuracy_std"] == pytest.approx(np.std(values, ddof=1))
    assert (row["test_accuracy_ci95_low"], row["test_accuracy_ci95_high"]) == pytest.approx((low, high))
    assert row["best_epoch_mean"] == pytest.approx(np.mean([run["best_epoch"] for run in runs]))
    # The first epoch, three seconds longer than the others, is left out.
    assert row["epoch_time_s_mean"] == pytest.approx(1.01, abs=0.05)
    assert row["wall_time_s_mean"] == pytest.approx(np.mean([run["wall_time_s"] for run in runs]))
    assert (row["dataset"], row["device"], row["num_parameters"]) == ("digits", "CPU, 2 cores", "386152")


def test_differences_are_paired_by_seed_and_count_the_pairs():
    results = [r for r in synthetic_results(seeds=range(4)) if (r["run"], r["seed"]) != ("sparse_0.2", 2)]
    table = differences_table(results, DENSE_AND_TWO)
    assert table["run"].unique().tolist() == ["sparse_0.2", "sparse_0.3"]
    assert table["metric"].unique().tolist() == ["test_accuracy", "best_val_accuracy"]
    row = table.query("run == 'sparse_0.2' and metric == 'test_accuracy'").iloc[0]
    seeds = [0, 1, 3]
    run, reference = (
        [synthetic_result(name, seed=seed)["test_accuracy"] for seed in seeds] for name in ("sparse_0.2", "dense")
    )
    assert row["n_pairs"] == 3 and row["reference"] == "dense"
    assert row["mean_difference"] == pytest.approx(np.mean(run) - np.mean(reference))
    assert row["p_value"] == pytest.approx(stats.ttest_rel(run, reference).pvalue)
    assert (table.query("run == 'sparse_0.3'")["n_pairs"] == 4).all()


def test_differences_of_a_study_of_one_run_have_no_rows(tmp_path):
    table = differences_table(synthetic_results(), [{**STUDIES[0], "members": STUDIES[0]["members"][:1]}])
    write_csv(table, tmp_path / "differences.csv")
    assert (tmp_path / "differences.csv").read_text().startswith("semantics,study,run,")


def test_a_run_without_results_is_refused_by_name():
    results = [result for result in synthetic_results() if result["run"] != "sparse_0.2"]
    for table in (summary_table, differences_table):
        with pytest.raises(AfmpError, match=r"sparsity_level.*'sparse_0\.2'.*paper"):
            table(results, STUDIES)


def test_a_result_given_twice_is_refused():
    with pytest.raises(AfmpError, match="'dense', seed 0, paper semantics: given twice"):
        epochs_table([synthetic_result("dense"), synthetic_result("dense")])


def test_csv_files_have_six_digits_and_empty_cells_for_missing_intervals(tmp_path):
    results = synthetic_results(seeds=[3])
    path = tmp_path / "new folder" / "summary.csv"
    write_csv(summary_table(results, STUDIES), path)
    content = path.read_bytes()
    assert b"\r" not in content and content.endswith(b"\n")
    row = next(csv.DictReader(content.decode().splitlines()))
    assert row["n"] == "1" and row["num_parameters"] == "386152"
    for name in SUMMARY_METRICS:
        assert row[f"{name}_std"] == row[f"{name}_ci95_low"] == row[f"{name}_ci95_high"] == ""
    dense = synthetic_result("dense", seed=3)
    assert row["test_accuracy_mean"] == f"{dense['test_accuracy']:.6g}"
    write_csv(differences_table(results, STUDIES), path)
    row = next(csv.DictReader(path.read_text().splitlines()))
    assert row["n_pairs"] == "1" and row["mean_difference"] != ""
    assert row["std"] == row["ci95_low"] == row["p_value"] == ""


def test_captions_name_every_run_of_a_tie():
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["test_accuracy"] = 30.0 + result["seed"] + 5 * (result["run"] in ("sparse_0.5", "sparse_0.6"))
    text = summary_caption(summary_table(results, STUDIES)).replace("\\", "")
    assert "36.00 ± 2.48 %, runs sparse_0.5, sparse_0.6." in text
    text = differences_caption(differences_table(results, STUDIES)).replace("\\", "")
    assert "Largest difference: sparse_0.5 minus dense" in text and "; as large: sparse_0.6 minus dense." in text


def test_analysis_imports_neither_torch_nor_figures():
    code = (
        "import sys\n"
        "from afmp.analysis import fits, parameter_table, ratios, study_tables, sweep_tables, table_files\n"
        "sys.exit(any(name == 'torch' or name.startswith('afmp.figures') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(PROJECT)}).returncode == 0


def with_rival(results: list[dict], run: str) -> list[dict]:
    """Return results in which one run is a model of timm."""
    return [result | {"semantics": "timm"} if result["run"] == run else result for result in results]


RIVALS = {
    **STUDIES[2],
    "semantics": ["paper"],
    "members": [STUDIES[2]["members"][1], STUDIES[2]["members"][0] | {"semantics": "timm"}],
}


def test_a_rival_has_a_row_of_its_own_and_a_difference_in_each_semantics_of_its_study():
    results = with_rival(synthetic_results(seeds=range(3)), "top_down")
    table = summary_table(results, [RIVALS])
    assert table[["semantics", "run", "n"]].values.tolist() == [["paper", "sparse_0.3", 3], ["timm", "top_down", 3]]
    assert "Highest mean test accuracy of models of timm: " in summary_caption(table)
    other = [result | {"semantics": "refined"} for result in results if result["run"] == "sparse_0.3"]
    both = [RIVALS | {"semantics": ["paper", "refined"]}]
    table = summary_table(results + other, both)
    assert table[["semantics", "run"]].values.tolist() == [
        ["paper", "sparse_0.3"],
        ["refined", "sparse_0.3"],
        ["timm", "top_down"],
    ]
    differences = differences_table(results + other, both).query("metric == 'test_accuracy'")
    assert differences[["semantics", "run", "reference"]].values.tolist() == [
        ["paper", "top_down", "sparse_0.3"],
        ["refined", "top_down", "sparse_0.3"],
    ]


def test_a_rival_may_be_the_reference():
    results = with_rival(synthetic_results(seeds=range(3)), "top_down")
    table = differences_table(results, [RIVALS | {"reference": "top_down"}])
    assert set(table["run"]) == {"sparse_0.3"} and set(table["semantics"]) == {"paper"}


def test_the_caption_of_epochs_counts_the_rivals():
    results = with_rival(synthetic_results(seeds=range(2)), "top_down")
    said = epochs_caption(epochs_table(results))
    assert "9 runs under paper semantics, 1 of timm, 2 seeds, 3 epochs each" in said
