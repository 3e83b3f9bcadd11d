"""Claims, answered from made-up results and sweeps whose answer is known."""

import math
import re
from pathlib import Path

import pandas
import pytest
from finished_study import CLAIMS
from shipped_study import SHIPPED
from synthetic_results import CPU, synthetic_point, synthetic_result, synthetic_scalability

from afmp.analysis.claim_tables import claims_table, claims_text, printed_claims, short_claims
from afmp.analysis.claim_wording import measured, too_short
from afmp.analysis.claims import Answered, Answers, answer_claims
from afmp.analysis.printed_tables import latex
from afmp.analysis.table_files import write_tables
from afmp.analysis.tables import claim_tables
from afmp.study.claims import records_of, resolve_claims
from afmp.study.paths import CLAIMS_TABLE, files_of_table
from afmp.study.study import resolve_study

STUDY = resolve_study(SHIPPED)
OF_RUNS = CLAIMS["claims"]["top_down_helps"] | {"semantics": ["paper"], "runs": ["sparse_0.3_top_down"]}
OF_SWEEP = CLAIMS["claims"]["faster"]
GROWTH = {"quantity": "time_growth", "resolutions": [128, 448]}
SIZES = (64, 128, 224, 448)


def results(differences, *, run="sparse_0.3_top_down", semantics="paper") -> list[dict]:
    """Return the results of a run and of sparse_0.3, which differ as given, a random seed after the other."""
    found = []
    for seed, difference in enumerate(differences):
        reference = synthetic_result("sparse_0.3", semantics=semantics, seed=seed) | {"test_accuracy": 30.0 + seed}
        found += [reference, reference | {"run": run, "test_accuracy": 30.0 + seed + difference}]
    return found


def sweep(*, slower=1.0, device=None, **options) -> dict:
    """Return a sweep in which DeiT-Tiny takes `slower` times the time of AFMP-Small."""
    points = [synthetic_point(model, size, **options) for model in ("afmp_small", "deit_tiny") for size in SIZES]
    times = {point["resolution"]: point["time_ms"] for point in points if point["model"] == "afmp_small"}
    for point in points:
        if point["model"] == "deit_tiny" and point["time_ms"]:
            of_afmp = times[point["resolution"]]
            point["time_ms"] = {key: value if key == "n" else None for key, value in of_afmp.items()}
            point["time_ms"]["all"] = [slower * value for value in of_afmp["all"][::-1]]
            point["time_ms"]["median"] = slower * of_afmp["median"]
    return synthetic_scalability(points) | ({"device": device} if device else {})


def answers_to(records, claim, **changes) -> Answers:
    return answer_claims(resolve_claims({"claims": {"one": claim | changes}}), STUDY, records)


def one(records, claim, **changes) -> Answered:
    (found,) = answers_to(records, claim, **changes).answered
    return found


# Seeds to tell: about (1.96 + 0.84)² / d² + 2, where d is the distance to the margin over the deviation, 1.636.
@pytest.mark.parametrize(
    ("differences", "changes", "verdict", "to_tell"),
    [
        ([2.0, 2.4, 1.8, 2.2], {}, "holds", ""),
        ([-2.0, -2.4, -1.8, -2.2], {}, "fails", ""),
        ([2.0, -1.4, 1.8, -0.2], {}, "cannot tell", "about 72 random seeds"),
        ([0.1, -0.1, 0.2, 0.0], {"expect": "equal", "margin": 1.0}, "holds", ""),
        ([2.0, -1.4, 1.8, -0.2], {"expect": "equal", "margin": 1.0}, "cannot tell", "about 106 random seeds"),
        ([2.0, 2.4, 1.8, 2.2], {"expect": "equal", "margin": 1.0}, "fails", ""),
        ([2.0], {}, "cannot tell", "at least 3 random seeds"),
        ([2.0, 2.1], {}, "cannot tell", "at least 3 random seeds"),
        ([0.0, 0.0, 0.0], {}, "fails", ""),
    ],
)
def test_a_claim_about_runs(differences, changes, verdict, to_tell):
    found = one(results(differences), OF_RUNS, **changes)
    (row,) = claims_table(Answers([found], 0)).to_dict("records")
    assert (found.verdict, row["verdict"], row["to_tell"], row["n"]) == (verdict, verdict, to_tell, len(differences))
    assert row["effect"] == pytest.approx(sum(differences) / len(differences))
    assert found.figure == "figures/paper/comparison_topdown_vs_no.png"
    assert found.command.startswith("snakemake comparison_topdown_vs_no ")


def test_p_is_against_the_margin_and_runs_have_the_labels_of_the_figures():
    records = results([2.0, 1.0, 0.6, 2.2])
    assert re.search(r"  p = 0\.\d+ *$", claims_text(answers_to(records, OF_RUNS)), re.MULTILINE)
    found = answers_to(records, OF_RUNS, margin=0.5)
    assert re.search(r"  p = 0\.\d+ against 0\.5 points\b", claims_text(found), re.MULTILINE)
    ((row,),) = printed_claims(found)[1].groups
    assert row[2:4] == ["sparse_0.3_top_down (With top-down)", "sparse_0.3 (Without top-down)"]


def test_only_seeds_that_both_runs_have_are_paired():
    records = results([2.0, 2.4, 1.8, 2.2])
    records.remove(next(record for record in records if (record["run"], record["seed"]) == ("sparse_0.3", 1)))
    (answer,) = one(records, OF_RUNS).answers
    assert answer.evidence.n == 3 and answer.effect == pytest.approx(2.0)


def test_each_semantics_has_its_verdict_and_its_correction():
    records = results([2.0, 2.4, 1.8, 2.2]) + results([-2.0, -2.4, -1.8, -2.2], semantics="notebook")
    found = answers_to(records, OF_RUNS, semantics=["paper", "notebook"]).answered
    assert [(each.semantics, each.verdict) for each in found] == [("paper", "holds"), ("notebook", "fails")]
    assert all(answer.adjusted == answer.p_value for each in found for answer in each.answers)


def test_several_comparisons_are_corrected_unless_the_claim_says_none():
    spread = [1.0, 0.2, 0.9, 1.5, 0.3]
    records = results(spread, run="sparse_0.3_lambda_1e-3")
    records += [record for record in results([0.4, -0.5, 0.1, 0.3, -0.2], run="sparse_0.3_lambda_1e-5")[1::2]]
    claim = OF_RUNS | {"study": "regularisation", "runs": ["sparse_0.3_lambda_1e-3", "sparse_0.3_lambda_1e-5"]}
    for correction, factor, verdict in (("none", 1, "holds"), ("holm", 2, "cannot tell")):
        found = one(records, claim, correction=correction)
        first, second = found.answers
        assert (found.verdict, first.verdict, second.verdict) == ("cannot tell", verdict, "cannot tell")
        assert first.adjusted == pytest.approx(factor * first.p_value)
    assert "cannot tell in 2 of 2; more than 1,000 random seeds to tell each" in measured(found)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"runs": ["top"]}, "study top_down_refinement has no run top; it has sparse_0.3_top_down, sparse_0.3"),
        ({"reference": "dense"}, "study top_down_refinement has no run dense"),
        ({"reference": "sparse_3"}, "study top_down_refinement has no run sparse_3 (did you mean 'sparse_0.3'?)"),
        ({"semantics": ["notebook"]}, "run sparse_0.3_top_down has no result yet"),
        ({"quantity": "step_time"}, "time of a training step per image was not measured of every random seed"),
    ],
)
def test_what_is_missing_cannot_be_told_and_says_so(changes, why):
    found = one(results([2.0, 2.4, 1.8, 2.2]), OF_RUNS, **changes)
    assert found.verdict == "cannot tell" and found.answers[0].lacking.startswith(why)
    assert measured(found).startswith(f"Not measured: {why}") and why in claims_text(Answers([found], 0))
    (row,) = claims_table(Answers([found], 0)).to_dict("records")
    assert row["n"] == 0 and row["to_tell"] == "" and math.isnan(row["effect"])


def test_a_semantics_that_the_study_lacks_cannot_be_told_if_it_has_another():
    records = results([2.0, 2.4, 1.8, 2.2])
    of_paper, of_refined = answers_to(records, OF_RUNS, semantics=["paper", "refined"]).answered
    assert (of_paper.verdict, of_refined.verdict) == ("holds", "cannot tell")
    assert of_refined.answers[0].lacking == "study top_down_refinement is not trained under refined"


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        (OF_RUNS, {"study": "ablations"}),
        (OF_RUNS, {"semantics": ["refined"]}),
        (OF_RUNS, {"runs": ["top_down"], "reference": "none"}),
        (OF_SWEEP, {"semantics": ["refined"]}),
    ],
)
def test_a_claim_of_which_the_study_has_nothing_is_left_out_and_counted(claim, changes, tmp_path):
    claims = {"claims": {"one": claim | changes, "two": OF_RUNS}}
    both = answer_claims(resolve_claims(claims), STUDY, results([2.0, 2.4, 1.8]))
    assert [each.claim.name for each in both.answered] == ["two"] and both.left_out == 1
    assert ": 1 holds. 1 claim is left out: this study has none of their runs, or no sweep." in claims_text(both)
    alone = answers_to([], claim, **changes)
    said = "1 claim is left out: this study has none of their runs, or no sweep."
    assert (alone.answered, claims_text(alone)) == ([], said)
    files = {name: str(tmp_path / file) for name, file in files_of_table(CLAIMS_TABLE).items()}
    write_tables(claim_tables(alone), files)
    assert said in Path(files["claims_page"]).read_text() and said in Path(files["claims_markdown"]).read_text()
    assert list(pandas.read_csv(files["claims"])) == list(claims_table(both))


def test_a_run_is_found_by_each_of_its_names():
    """`refined_16` has the settings of `dense`, under whose name it is trained."""
    pairs = [(("dense", "refined", 50.0), ("vit_16", "timm", 46.0 + 0.1 * seed)) for seed in range(3)]
    records = [
        synthetic_result("dense", seed=seed) | {"run": run, "semantics": semantics, "test_accuracy": value}
        for seed, pair in enumerate(pairs)
        for run, semantics, value in pair
    ]
    changes = {"study": "sixteen_patches", "semantics": ["refined"], "reference": "vit_16"}
    for name in ("refined_16", "dense"):
        (answer,) = one(records, OF_RUNS, runs=[name], **changes).answers
        assert answer.effect == pytest.approx(3.9) and answer.verdict == "holds"
    (claim,) = resolve_claims({"claims": {"one": OF_RUNS | changes | {"runs": ["refined_16"]}}})
    assert "train/refined/dense/seed_0/results_dense.json" in records_of([claim], STUDY)


def test_a_training_step_is_compared_per_image():
    records = results([0.0, 0.0, 0.0])
    for record in records:
        faster = 1 + record["run"].endswith("top_down")
        record["step"] = {"milliseconds": {"median": (8.0 + 0.01 * record["seed"]) / faster}, "memory_mb": 100.0}
        record["config"]["training"]["batch_size"] = 64
    claim = OF_RUNS | {"quantity": "step_time", "expect": "lower"}
    assert one(records, claim, margin=0.9).answers[0].effect == pytest.approx(2.0)
    assert [one(records, claim, margin=margin).verdict for margin in (0.9, 1.1)] == ["holds", "fails"]
    assert one(records, claim | {"quantity": "step_memory"}).verdict == "fails"  # equal for all seeds


@pytest.mark.parametrize(
    ("slower", "changes", "verdict"),
    [
        (3.0, {}, "holds"),
        (0.5, {}, "fails"),
        (1.001, {}, "cannot tell"),
        (1.2, {"margin": 0.5}, "fails"),  # faster, but not by half
        (1.001, {"expect": "equal", "margin": 0.2}, "holds"),
        (3.0, {"expect": "higher"}, "fails"),
    ],
)
def test_a_claim_about_time_in_the_sweep(slower, changes, verdict):
    found = one([sweep(slower=slower)], OF_SWEEP, **changes)
    assert found.verdict == verdict and len(found.answers) == 2
    for answer in found.answers:
        low, high = answer.interval
        assert answer.effect == pytest.approx(slower) and low < slower < high < 1.2 * slower
    assert found.command == (
        "afmp benchmark sweep --models afmp_small,deit_tiny --resolutions 64,224 --batch-size 64,64 --precision fp32 "
        "--mode train --execution eager --attention fused --semantics paper"
    )
    if verdict == "cannot tell":
        assert re.search(r"more than 1,000 passes to tell", claims_text(Answers([found], 0)))


def test_a_claim_about_several_sizes_fails_if_it_fails_at_one():
    mixed = sweep(slower=3.0)
    for point in mixed["points"]:
        if (point["model"], point["resolution"]) == ("deit_tiny", 224):
            point["time_ms"] |= {"all": [value / 9 for value in point["time_ms"]["all"]]}
            point["time_ms"]["median"] /= 9
    found = one([mixed], OF_SWEEP)
    assert [answer.verdict for answer in found.answers] == ["holds", "fails"] and found.verdict == "fails"
    assert "holds in 1, fails in 1 of 2" in measured(found)


def test_growth_is_the_difference_of_the_exponents_of_n():
    points = sweep()
    for point in points["points"]:
        exponent = 2 if point["model"] == "deit_tiny" else 1
        factor = point["batch_size"] * point["num_patches"] ** exponent / point["time_ms"]["median"]
        point["time_ms"] |= {"all": [factor * value for value in point["time_ms"]["all"]]}
        point["time_ms"]["median"] *= factor
        point["memory"]["peak_mb"] = 10.0 * point["num_patches"]
    slower = one([points], OF_SWEEP, **GROWTH, margin=0.5)
    assert slower.verdict == "holds" and slower.answers[0].effect == pytest.approx(-1.0)
    memory = one([points], OF_SWEEP, **GROWTH | {"quantity": "memory_growth"}, margin=0.5)
    assert memory.verdict == "fails" and memory.answers[0].effect == pytest.approx(0.0)


def test_peak_memory_is_exact_on_cuda_and_tells_nothing_elsewhere():
    claim = OF_SWEEP | {"quantity": "peak_memory"}
    found = one([sweep()], claim, resolutions=[224])
    ratio = {p["model"]: p["memory"]["peak_mb"] for p in sweep()["points"] if p["resolution"] == 224}
    assert found.answers[0].effect == pytest.approx(ratio["deit_tiny"] / ratio["afmp_small"])
    assert found.verdict == ("holds" if ratio["deit_tiny"] > ratio["afmp_small"] else "fails")
    found = one([sweep(kind="resident_set_growth", device=CPU)], claim)
    assert found.verdict == "cannot tell" and found.answers[0].lacking == "peak memory is exact on CUDA only"


def test_a_point_that_was_not_measured_or_ran_out_of_memory_says_so():
    found = one([sweep()], OF_SWEEP, resolutions=[224, 3584])
    assert found.verdict == "cannot tell" and found.answers[0].verdict == "cannot tell"
    assert found.answers[1].lacking == "the sweep did not measure afmp_small at 3,584 px (train, fp32, eager)"
    assert "1 not measured" in measured(found)
    broken = sweep()
    broken["points"][-1] |= {"status": "oom", "time_ms": None, "memory": None}
    assert one([broken], OF_SWEEP, resolutions=[448]).answers[0].lacking.startswith("deit_tiny at 448 px")
    assert one([], OF_SWEEP).answers[0].lacking == "there is no sweep under paper"


def test_every_form_has_the_same_verdicts_and_hostile_words_are_text():
    records = [*results([2.0, 2.4, 1.8, 2.2]), sweep(slower=3.0)]
    words = "a | b & 50 % of #1 \x1b[2J $x$".replace("\x1b", "")
    claims = {"claims": {"one": OF_RUNS | {"claim": words}, "two": OF_SWEEP}}
    found = answer_claims(resolve_claims(claims), STUDY, records)
    verdicts, comparisons, sources = printed_claims(found)
    assert [row[:3] for row in verdicts.groups[0]] == [[words, "paper", "holds"], [OF_SWEEP["claim"], "paper", "holds"]]
    table = claims_table(found)
    at = comparisons.header.index
    assert [row[at("Verdict")] for row in comparisons.groups[0]] == list(table["verdict"]) == ["holds"] * 3
    of_runs, of_sweep, _ = comparisons.groups[0]
    assert [cell.split(" (")[0] for cell in of_runs[2:4]] == ["sparse_0.3_top_down", "sparse_0.3"]
    assert of_runs[4] == "test accuracy: top_down_refinement"
    assert of_sweep[2:4] == ["AFMP-Small", "DeiT-Tiny"] and "64 px, train, fp32, eager" in of_sweep[4]
    assert of_runs[at("Effect")] == "+2.10 [+1.69, +2.51] points"
    assert re.fullmatch(r"3\.00 \[.*\] \(reference / model\)", of_sweep[at("Effect")])
    assert [row[3] for row in sources.groups[0]] == list(dict.fromkeys(table["command"]))
    said = claims_text(found)
    assert said.startswith("2 verdicts, each on a claim under one semantics: 2 holds.\n\nHOLDS: a | b & 50 %")
    assert "+2.10 [+1.69, +2.51] points  n = 4 random seeds  p < 0.001" in said


def test_every_form_names_device_torch_and_commit(tmp_path):
    records = [*results([2.0, 2.4, 1.8, 2.2]), sweep(slower=3.0)]
    records[-1]["device"] = records[-1]["device"] | {"name": "Another GPU"}
    records[-1]["points"][0]["git_commit"] = "b" * 40  # measured before the rest of its sweep
    found = answer_claims(resolve_claims({"claims": {"one": OF_RUNS, "two": OF_SWEEP}}), STUDY, records)
    files = {name: str(tmp_path / file) for name, file in files_of_table(CLAIMS_TABLE).items()}
    write_tables(claim_tables(found), files)
    names = [records[0]["device"]["name"], "Another GPU", records[0]["versions"]["torch"], "b" * 12]
    for form in ("claims", "claims_caption", "claims_page", "claims_latex", "claims_markdown"):
        text = Path(files[form]).read_text().replace("\\", "")
        assert all(name in text for name in names), form
    of_runs, *of_sweep = pandas.read_csv(files["claims"]).to_dict("records")
    assert of_runs["device"] == names[0] and {row["device"] for row in of_sweep} == {"Another GPU"}


def test_latex_breaks_the_tables_of_claims_over_pages_and_names_the_packages():
    records = [*results([2.0, 2.4, 1.8, 2.2]), sweep(slower=3.0)]
    found = answer_claims(resolve_claims({"claims": {"one": OF_RUNS, "two": OF_SWEEP}}), STUDY, records)
    tables = printed_claims(found)
    text = latex(tables)
    assert text.startswith("% Needs \\usepackage{booktabs,array,longtable,pdflscape}.\n")
    assert "{table}" not in text and text.count("\\begin{landscape}") == text.count("\\end{landscape}") == 1
    blocks = re.findall(r"\\begin\{longtable\}\{([^\n]*)\}\n(.*?)\\end\{longtable\}", text, re.DOTALL)
    for table, (columns, block) in zip(tables, blocks, strict=True):
        kinds = re.findall(r">\{\\raggedright\\arraybackslash\}p\{(0\.\d+)\\linewidth\}|([lr])", columns)
        assert len(kinds) == len(table.header) and sum(float(part) for part, _ in kinds if part) < 0.8
        rows = [line for line in block.split("\n") if line.endswith(r" \\") and " & " in line]
        assert {row.count(" & ") for row in rows} == {len(table.header) - 1}
        assert len(rows) == 2 + len(table.groups[0])  # the header stands on the first page and on each other one
        assert block.index("\\endfirsthead") < block.index("\\endhead") < block.index("\\endfoot")


def test_the_table_of_readme_has_the_claims_with_a_short_text():
    records = [*results([2.0, -1.4, 1.8, -0.2]), sweep(slower=3.0)]
    slow, broken = records[-1]["points"][-1], records[-1]["points"][-2]  # DeiT-Tiny at 448 px and at 224 px
    slow["time_ms"] = {
        "n": 10,
        "all": [2 * value for value in slow["time_ms"]["all"]],
        "median": 2 * slow["time_ms"]["median"],
    }
    broken |= {"status": "oom", "time_ms": None, "memory": None}
    claims = {
        "of_runs": OF_RUNS | {"short": "Top-down helps", "semantics": ["paper", "notebook"]},
        "of_sweep": OF_SWEEP | {"short": "Faster", "resolutions": [64, 128, 224]},
        "growth": OF_SWEEP | GROWTH | {"short": "Growth"},
        "memory": OF_SWEEP | {"short": "Memory", "quantity": "peak_memory"},
        "without": OF_SWEEP,
    }
    rows = short_claims(answer_claims(resolve_claims({"claims": claims}), STUDY, records)).groups[0]
    lead, exponents = "DeiT-Tiny / AFMP-Small", "exponent of N, AFMP-Small minus DeiT-Tiny"
    difference = "sparse_0.3_top_down minus sparse_0.3: +0.55 [−2.05, +3.15] points"
    assert rows == [
        ["Top-down helps (paper)", "cannot tell", difference, "4; about 72 random seeds to tell"],
        ["Top-down helps (notebook)", "cannot tell", "not measured", "none"],
        ["Faster", "cannot tell", f"{lead}: 3.00, 64 to 128 px; 1 of 3 not measured", "10 passes"],
        ["Growth", "holds", f"{exponents}: −0.28 [−0.29, −0.26], 128 to 448 px", "10 passes"],
        ["Memory", "fails in 1 of 2", f"{lead}: 0.780, 64 px; 1 of 2 not measured", "exact"],
    ]


SHORTER = {
    "few seeds": ({"seeds": [0, 1]}, {}, "2 random seeds and 100 epochs per run, where config.yaml has 5 and 100."),
    "few epochs": ({}, {"epochs": 8}, "5 random seeds and 8 epochs per run, where config.yaml has 5 and 100."),
    "most seeds and epochs": ({"seeds": [0, 1, 2]}, {"epochs": 60}, None),
}


@pytest.mark.parametrize("shorter", SHORTER)
def test_a_study_that_is_too_short_says_so_and_what_is_long_enough(shorter):
    changes, training, said = SHORTER[shorter]
    studies = {"sparsity_level": SHIPPED["studies"]["sparsity_level"]}
    study = resolve_study(SHIPPED | {"studies": studies, "training": SHIPPED["training"] | training} | changes)
    unclear, clear = (answers_to(results([d] * 3 + [-d]), OF_RUNS) for d in (1.0, 0.0))
    assert [one.verdict for one in unclear.answered] == ["cannot tell"]
    found = too_short(unclear, study, STUDY)
    assert found == "" if said is None else f" most claims: it has {said} `snakemake all " in found
    assert too_short(clear, study, STUDY) == "" and clear.answered[0].verdict == "fails"
    assert too_short(unclear, STUDY, STUDY) == too_short(Answers([], 18), study, STUDY) == ""


def test_epochs_of_other_runs_than_those_of_config_yaml_are_not_compared():
    runs = [{"run": "mine", "sparsity": 0.7, "epochs": 3}, {"run": "other", "sparsity": 0.8, "epochs": 3}]
    table = SHIPPED["studies"]["sparsity_level"] | {"runs": runs, "reference": "mine", "figure": "own"}
    study = resolve_study(SHIPPED | {"studies": {"own": table}})
    assert too_short(answers_to(results([1, -1, 1]), OF_RUNS), study, STUDY) == ""
