"""Verification: a finished study passes and stays as it is; every check that fails or cannot be made says so."""

import os
import re
import shutil
import zlib
from pathlib import Path

import pytest
import yaml
from lies import R, best, bless, covered, edit, gates, pipe, pixel, weights
from verified import failures, lines
from workflow_runs import start_snakemake

from afmp.cli import main
from afmp.errors import AfmpError
from afmp.finished.check import Check, NotCheckedError, make
from afmp.finished.unverified import refuse_unverified
from afmp.study.run_config import IF_ABSENT

RESULT, BEST = R["top_down", "paper", 1], best("top_down", "paper", 1)
FIGURE = "figures/paper/comparison_topdown_vs_no"


def snapshot(folder: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.promise("verify-changes-nothing")
def test_a_finished_study_passes_every_check_and_is_not_changed(finished_project):
    before = snapshot(finished_project)
    said = lines(finished_project)
    assert snapshot(finished_project) == before
    assert {line[:6] for line in said[:-1]} == {"PASS  "}
    assert said[-1] == f"{len(said) - 1} checks: {len(said) - 1} passed, 0 failed, 0 could not be made"
    for semantics in ("paper", "notebook"):
        for run in ("top_down", "sparse_0.3", "sparse_0.4"):
            for kind in ("results", "diagnostics", "weights"):
                assert f"PASS  {kind} of {run} [{semantics}], 3 seeds" in said
            assert f"PASS  plot_diagnostics/{semantics}/{run}/epoch_0003, drawn again" in said
    assert f"PASS  {FIGURE}, drawn again" in said
    tables = ("epochs", "summary", "differences", "parameters")
    tables += ("scalability", "scalability_ratios", "scalability_fits")
    assert {f"PASS  table {table}, computed again" for table in tables} <= set(said)


def test_weights_with_the_metadata_of_an_older_release_pass(study_to_break):
    def older(about: dict) -> dict:
        model = {key: value for key, value in about["model"].items() if key not in IF_ABSENT}
        return {key: value for key, value in about.items() if key != "batch_size"} | {"model": model}

    path = best("top_down", "notebook", 1)
    covered(path, weights(path, metadata=older))(study_to_break / "results")
    bless(study_to_break / "results")
    assert failures(study_to_break) == []


def test_file_times_say_nothing(study_to_break):
    for path in (study_to_break / "results").rglob("*"):
        os.utime(path, (1e9, 1e9))
    (study_to_break / "results" / RESULT).touch()
    assert failures(study_to_break) == []


@pytest.mark.promise("verify-fails-by-name")
def test_what_cannot_be_checked_says_so_and_why(study_to_break):
    (study_to_break / "results" / RESULT).unlink()
    said = lines(study_to_break)
    skipped = [line for line in said if line.startswith("SKIP")]
    assert "SKIP  weights of top_down [paper], 3 seeds: no valid result of seed 1" in skipped
    for table in ("epochs", "summary", "differences"):
        assert f"SKIP  table {table}, computed again: 1 of its 18 sources failed" in skipped
    assert any(re.match(f"SKIP  {FIGURE}, drawn again: .*{RESULT} failed", line) for line in skipped)
    assert said[-1].endswith(f"{len(skipped)} could not be made")
    # The failed checks stand again at the end, after all others.
    failed = [line for line in said if line.startswith("FAIL")]
    assert failed[: len(failed) // 2] == failed[len(failed) // 2 :] == said[-1 - len(failed) // 2 : -1]


@pytest.mark.parametrize(("package", "subject"), [("matplotlib", FIGURE), ("pandas", "table summary")])
def test_what_another_version_drew_is_not_compared_and_says_so(study_to_break, package, subject):
    manifest = study_to_break / "results/manifest.json"
    edit(manifest, drawn_with={package: "1.0.0"})
    said = lines(study_to_break)
    again = "drawn" if package == "matplotlib" else "computed"
    assert any(line.startswith(f"SKIP  {subject}, {again} again: ") and f"{package} 1.0.0" in line for line in said)
    assert failures(study_to_break) == []
    (study_to_break / "results/aggregate/summary.rst").write_text("edited")
    (study_to_break / f"results/{FIGURE}.rst").unlink()
    found = failures(study_to_break)
    assert any("summary.rst: line 1 is 'edited'" in line for line in found)
    assert any(f"{FIGURE}.rst: no such file" in line for line in found)


def test_a_figure_that_another_processor_drew_passes(study_to_break):
    """Its numbers differ in their last bits, and its streams may be packed otherwise."""
    results = study_to_break / "results"
    pixel(f"{FIGURE}.png", 1)(results)
    content = (results / f"{FIGURE}.pdf").read_bytes()

    def packed_otherwise(stream: re.Match) -> bytes:
        words = zlib.decompress(stream[2])
        moved = re.sub(rb"(?m)^(\d+\.\d{6})\d* (\d+\.\d+) m$", rb"\g<1>1 \2 m", words)
        return stream[1] + zlib.compress(moved, 1) + stream[3]

    changed = re.sub(rb"(stream\r?\n)(.*?)(\r?\nendstream)", packed_otherwise, content, flags=re.DOTALL)
    assert changed != content
    (results / f"{FIGURE}.pdf").write_bytes(changed)
    bless(results)
    assert failures(study_to_break) == []


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), RecursionError("deep"), MemoryError(), AfmpError("file: wrong.")]
)
def test_a_check_that_breaks_is_a_fault_that_names_its_file(error):
    def faults():
        yield "one fault"
        raise error

    outcome = make(Check("subject", faults, "the/file"))
    expected = "file: wrong." if isinstance(error, AfmpError) else "the/file: cannot be checked ("
    assert outcome.faults[0] == "one fault" and outcome.faults[1].startswith(expected)

    def unable():
        raise NotCheckedError("no GPU")

    assert make(Check("subject", unable, "the/file")).not_checked == "no GPU"


@pytest.mark.promise("verified-before-written")
@pytest.mark.parametrize(
    ("lie", "path"),
    [
        (lambda results: (results / "aggregate/summary.html").write_text("better"), "aggregate/summary.html"),
        (lambda results: (results / f"{FIGURE}.png").write_bytes(b""), f"{FIGURE}.png"),
        (pipe(gates("top_down", "paper", 0)), gates("top_down", "paper", 0)),
    ],
)
def test_a_study_that_lies_is_not_written_anywhere(study_to_break, tmp_path, capsys, lie, path):
    results = study_to_break / "results"
    config = study_to_break / "config.yaml"
    dataset = results / "prepare_data/digits.safetensors"
    refuse_unverified(yaml.safe_load(config.read_text()), results=results, dataset=dataset)
    lie(results)
    with pytest.raises(AfmpError, match="nothing is written") as refused:
        refuse_unverified(yaml.safe_load(config.read_text()), results=results, dataset=dataset)
    assert re.search(f"^FAIL  .*{results}/{path}: ", str(refused.value), re.MULTILINE)
    assert main(["archive", str(results), str(tmp_path / "new"), "--config", str(config)]) == 2
    assert "nothing is written" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_the_command_prints_the_lines_and_fails_with_them(study_to_break, capsys):
    project = study_to_break
    results = str(project / "results")
    arguments = ["verify", results, "--config", str(project / "config.yaml")]
    arguments += ["--dataset", f"{results}/prepare_data/digits.safetensors", "--archives", str(project / "archive")]
    assert main(arguments) == 0
    assert "FAIL" not in capsys.readouterr().out
    (project / "results" / BEST).unlink()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert f"FAIL  weights of top_down [paper], 3 seeds: {results}/{BEST}: no such file" in said.out
    assert re.search(r"afmp verify: .*: 2 of \d+ checks failed; ", said.err)  # and the manifest names it
    assert main([*arguments, "--spot", "2"]) == 2
    assert "spot: found 2, but only a deep verification trains again" in capsys.readouterr().err


@pytest.mark.promise("verify-fails-by-name")
@pytest.mark.long
def test_the_workflow_checks_without_making_anything(finished_project, tmp_path):
    project = Path(shutil.copytree(finished_project, tmp_path / "project"))
    (project / "results" / RESULT).unlink()
    (project / "results" / f"{FIGURE}.png").unlink()
    before = snapshot(project / "results")
    process = start_snakemake(project, "verify", "--cores", "1")
    said, _ = process.communicate()
    assert process.returncode != 0 and "Traceback" not in said
    assert f"FAIL  results of top_down [paper], 3 seeds: results/{RESULT}: no such file\n" in said
    assert f"results/{FIGURE}.png: no such file" in said
    counts = re.search(r"^(\d+) checks: (\d+) passed, 3 failed, (\d+) could not be made$", said, re.MULTILINE)
    assert int(counts[1]) == int(counts[2]) + 3 + int(counts[3])
    assert said.count("FAIL  ") == 2 * 3  # the result, the figure and the manifest, and all three again at the end
    checks = (project / "results/logs/verify/checks.txt").read_text()
    assert checks.count("PASS  ") == int(counts[2]) and checks.count("SKIP  ") == int(counts[3])
    assert checks.splitlines() == re.findall(r"^(?:PASS  |FAIL  |SKIP  |\d+ checks: ).*", said, re.MULTILINE)
    assert re.findall(r"^(?:local)?rule (\w+):", said, re.MULTILINE) == ["verify"]
    made = {path for path, time in snapshot(project / "results").items() if before.get(path) != time}
    assert {path.name for path in made} <= {"logs", "verify", "verify.log", "checks.txt", "snakemake_metadata"}


@pytest.mark.promise("killed-archive-gets-on", "verified-before-written")
def test_a_verification_that_is_interrupted_before_an_archive_repeats_nothing(study_to_break, monkeypatch):
    project = study_to_break
    results, config = project / "results", yaml.safe_load((project / "config.yaml").read_text())
    made = []

    def counting(check):
        made.append(check.subject)
        if len(made) % 20 == 0:
            raise KeyboardInterrupt
        return make(check)

    def refuse():
        refuse_unverified(config, results=results, dataset=results / "prepare_data/digits.safetensors")

    monkeypatch.setattr("afmp.finished.unverified.make", counting)
    interruptions = 0
    while True:
        try:
            refuse()
            break
        except KeyboardInterrupt:
            interruptions += 1
            assert interruptions < 30
    (results / "notes.txt").write_text("of somebody")  # in no archive and no report
    always = ["files are those of the manifest"]
    passed = [subject for subject in made if subject not in always]
    assert interruptions > 1 and len(passed) - len(set(passed)) <= interruptions
    made.clear()
    refuse()
    assert made == always
    # What is remembered is only of these very files.
    (results / f"{FIGURE}.rst").write_text("better")
    monkeypatch.setattr("afmp.finished.unverified.make", lambda check: made.append(check.subject) or make(check))
    with pytest.raises(AfmpError, match=f"{FIGURE}.rst"):
        refuse()
    assert set(passed) <= set(made)
