"""Tables: intervals, pairing by seed, order, and what a file shows where one seed leaves nothing to say."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_results import STUDIES, VERSIONS, synthetic_result, synthetic_results

from afmp import records
from afmp.analysis import statistics
from afmp.analysis.tables import write_csv
from afmp.errors import AfmpError

DENSE_AND_TWO = [{**STUDIES[0], "members": STUDIES[0]["members"][:3]}]


def test_interval_is_the_t_interval_of_scipy():
    values = np.array([[30.1, 2.0], [29.4, 2.5], [31.2, 1.0], [30.0, 2.2]])
    interval = statistics.mean_and_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=values.mean(0), scale=stats.sem(values, axis=0))
    np.testing.assert_allclose((interval.low, interval.high), (low, high), rtol=1e-12)
    np.testing.assert_allclose(interval.std, values.std(0, ddof=1))
    np.testing.assert_allclose(interval.half, (high - low) / 2)
    assert interval.n == 4
    np.testing.assert_allclose(statistics.mean_and_interval(values.T, axis=1).low, low)


def test_one_value_has_a_mean_and_no_interval():
    interval = statistics.mean_and_interval([31.5])
    assert interval.mean == 31.5 and interval.n == 1
    assert np.isnan([interval.std, interval.low, interval.high]).all()
    with pytest.raises(AfmpError, match="0 seeds"):
        statistics.mean_and_interval([])


def test_paired_difference_is_the_paired_t_test_over_common_seeds():
    run = {0: 30.0, 1: 31.0, 2: 30.5, 7: 99.0}
    reference = {0: 29.0, 1: 30.4, 2: 30.6, 8: 1.0}
    difference = statistics.paired_difference(run, reference)
    expected = stats.ttest_rel([30.0, 31.0, 30.5], [29.0, 30.4, 30.6])
    assert difference.n == 3
    assert difference.mean == pytest.approx(0.5)
    assert difference.p_value == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    assert (difference.low, difference.high) == (pytest.approx(low), pytest.approx(high))
    assert difference.excludes_zero is False
    assert statistics.paired_difference({1: 1.0}, {2: 2.0}).n == 0
    assert statistics.paired_difference({1: 1.0}, {1: 2.0}).excludes_zero is None


@pytest.mark.filterwarnings("error")
def test_differences_that_are_alike_in_every_seed_have_no_p_value():
    same = {0: 34.0, 1: 35.0, 2: 33.0}
    difference = statistics.paired_difference(same, same)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)
    assert difference.excludes_zero is False and np.isnan(difference.p_value)
    shifted = statistics.paired_difference({seed: value + 1 for seed, value in same.items()}, same)
    assert shifted.excludes_zero is True and np.isnan(shifted.p_value)


def test_epochs_table_has_every_epoch_in_one_order():
    results = synthetic_results(seeds=range(2), epochs=4) + synthetic_results(
        semantics="notebook", seeds=[1, 0], epochs=3
    )
    table = statistics.epochs_table(results)
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
    assert table.equals(statistics.epochs_table(results[::-1]))
    assert table["semantics"].iloc[0] == "paper"
    one = table.query("semantics == 'notebook' and run == 'top_down' and seed == 1")
    history = synthetic_result("top_down", semantics="notebook", seed=1, epochs=3)["training_history"]
    assert one["epoch"].tolist() == [1, 2, 3]
    assert one["val_acc"].tolist() == history["val_acc"]
    assert one["time_s"].tolist() == history["time"]


def test_summary_has_mean_and_interval_of_each_run_of_each_study():
    results = synthetic_results(seeds=range(3)) + synthetic_results(semantics="notebook", seeds=range(3))
    table = statistics.summary_table(results, STUDIES)
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
    # The synthetic first epoch takes three seconds more than the others: it is left out.
    assert row["epoch_time_s_mean"] == pytest.approx(1.01, abs=0.05)
    assert row["wall_time_s_mean"] == pytest.approx(np.mean([run["wall_time_s"] for run in runs]))
    assert (row["dataset"], row["device"], row["num_parameters"]) == ("digits", "CPU, 2 cores", "386152")


def test_times_of_seeds_that_trained_as_one_stack_are_one_measurement():
    results = [synthetic_result("sparse_0.3", seed=seed) for seed in range(4)]
    for result in results:
        result["trained_together"] = [0, 1, 2, 3]
    assert np.isnan(statistics.metric_interval(results, "wall_time_s").half)
    assert statistics.metric_interval(results, "test_accuracy").n == 4
    for result in results:
        result["trained_together"] = [0, 1] if result["seed"] < 2 else [2, 3]
    interval, times = statistics.metric_interval(results, "wall_time_s"), [r["wall_time_s"] for r in results]
    assert interval.n == 2 and interval.mean == pytest.approx(np.mean(times))
    assert interval.std == pytest.approx(np.std([np.mean(times[:2]), np.mean(times[2:])], ddof=1))


def test_differences_pair_by_seed_and_say_how_many_pairs_there_are():
    results = [r for r in synthetic_results(seeds=range(4)) if (r["run"], r["seed"]) != ("sparse_0.2", 2)]
    table = statistics.differences_table(results, DENSE_AND_TWO)
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


def test_a_study_of_one_run_has_a_table_with_no_rows(tmp_path):
    table = statistics.differences_table(synthetic_results(), [{**STUDIES[0], "members": STUDIES[0]["members"][:1]}])
    write_csv(table, tmp_path / "differences.csv")
    assert (tmp_path / "differences.csv").read_text().startswith("semantics,study,run,")


def test_a_run_without_results_is_named():
    results = [result for result in synthetic_results() if result["run"] != "sparse_0.2"]
    for table in (statistics.summary_table, statistics.differences_table):
        with pytest.raises(AfmpError, match=r"sparsity_level.*'sparse_0\.2'.*paper"):
            table(results, STUDIES)


def test_a_result_given_twice_is_refused():
    with pytest.raises(AfmpError, match="'dense', seed 0, paper semantics: given twice"):
        statistics.epochs_table([synthetic_result("dense"), synthetic_result("dense")])


def test_files_have_six_digits_and_nothing_where_one_seed_leaves_nothing(tmp_path):
    results = synthetic_results(seeds=[3])
    path = tmp_path / "new folder" / "summary.csv"
    write_csv(statistics.summary_table(results, STUDIES), path)
    content = path.read_bytes()
    assert b"\r" not in content and content.endswith(b"\n")
    row = next(csv.DictReader(content.decode().splitlines()))
    assert row["n"] == "1" and row["num_parameters"] == "386152"
    for name in statistics.SUMMARY_METRICS:
        assert row[f"{name}_std"] == row[f"{name}_ci95_low"] == row[f"{name}_ci95_high"] == ""
    dense = synthetic_result("dense", seed=3)
    assert row["test_accuracy_mean"] == f"{dense['test_accuracy']:.6g}"
    write_csv(statistics.differences_table(results, STUDIES), path)
    row = next(csv.DictReader(path.read_text().splitlines()))
    assert row["n_pairs"] == "1" and row["mean_difference"] != ""
    assert row["std"] == row["ci95_low"] == row["p_value"] == ""


def test_tables_do_not_import_torch():
    code = "import sys, afmp.statistics; sys.exit('torch' in sys.modules)"
    project = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(project)}).returncode == 0


def test_the_synthetic_results_are_valid():
    for result in synthetic_results(seeds=[0]) + synthetic_results(semantics="notebook", seeds=[0]):
        records.validate(result, "result", where="synthetic result")
    assert set(VERSIONS) == set(records.schema("result")["$defs"]["versions"]["properties"])
