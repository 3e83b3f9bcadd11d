"""What a study in progress prints where there is no terminal. Its scripts only write what real ones would."""

import re
from pathlib import Path

import pandas
import pytest
import yaml
from conftest import PROJECT
from workflow_runs import SMALL, STUDY, copy_project, snakemake, write_study

from afmp.analysis.accuracies import accuracies_text

MOST_LINES = 150  # of `make demo`

SCRIPT = """
from afmp.log import log, log_to

with log_to(snakemake.log[0]):
    import json, os
    from pathlib import Path
    from afmp.errors import AfmpError

    wildcards = dict(snakemake.wildcards.items())
    if "run" in wildcards and "seeds" in snakemake.params.keys():
        run = f"{wildcards['run']} [{wildcards['semantics']}]"
        for seed in snakemake.params.seeds:
            for epoch in (1, 2, 3):
                log.info("%s seed %d: epoch %d/3  loss 1.0  train 1.00 %%  val 2.00 %% (best 2.00)", run, seed, epoch)
        if Path("diverges").exists():
            log.warning("%s: a warning", run)
        if Path("diverges").exists() and wildcards["run"] == "wide":
            raise AfmpError(f"{run} seed 0 diverged in epoch 3. Lower training/learning_rate.")
    for path in snakemake.output:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("made up\\n")
"""


def make_up(project: Path) -> Path:
    """Replace every script of a copy of the project by SCRIPT."""
    for script in (project / "workflow_scripts").glob("*.py"):
        script.write_text(SCRIPT)
    return project


@pytest.fixture
def project(tmp_path):
    """A study of two runs with two seeds, made up."""
    study = SMALL | {"seeds": [0, 1], "studies": {"widths": STUDY["studies"]["widths"]}}
    write_study(copy_project(tmp_path), study)
    return make_up(tmp_path)


TARGET = "results/aggregate/epochs.csv"


def counts(said: str) -> list[str]:
    return re.findall(r"\d+ of \d+ runs trained, \d+ of \d+ jobs done(?:, \d+ failed)?", said)


def test_a_failure_is_visible_among_few_lines(project):
    """The sentence of the error, the rule, and the paths of its log and of the log of everything."""
    (project / "diverges").touch()
    said = snakemake(project, TARGET, check=False)
    assert "wide [paper] seed 0 diverged in epoch 3. Lower training/learning_rate." in said
    assert "Error in rule train:" in said and "log: results/logs/train/paper/wide.log (check log file(s)" in said
    assert "sparse_0.3 [paper]: a warning" in said
    assert counts(said)[-1] == "1 of 2 runs trained, 2 of 4 jobs done, 1 failed"
    # Nothing about the job that went well, except its warning.
    assert "rule aggregate" not in said and "Finished jobid" not in said and "sparse_0.3 [paper] seed 0: e" not in said
    (path,) = re.findall(r"Complete log\(s\): (\S+)", said)
    assert f"those of Snakemake: {path}\n" in said
    of_snakemake = Path(path).read_text()
    assert "Finished jobid" in of_snakemake and "rule train: sparse_0.3 [paper], log:" in of_snakemake
    # The terminal has the first file of a list, and Snakemake's log every one.
    first, second = (f"results/prepare_data/digits.{ending}" for ending in ("safetensors", "sha256"))
    assert f"    input: {first} and 1 more\n" in said and f"    input: {first}, {second}\n" in of_snakemake
    log = (project / "results/logs/train/paper/sparse_0.3.log").read_text()
    assert "sparse_0.3 [paper] seed 1: epoch 3/3" in log


@pytest.mark.long
def test_a_study_that_failed_resumes_with_its_count(project):
    (project / "diverges").touch()
    snakemake(project, TARGET, check=False)
    (project / "diverges").unlink()
    said = snakemake(project, TARGET)
    assert counts(said)[-1] == "2 of 2 runs trained, 2 of 2 jobs done" and "1 of 2 runs trained, 0 of 2" in said
    # Snakemake's own messages, if they are asked for, and in a call that trains nothing.
    result = "results/train/paper/wide/seed_0/results_wide.json"
    (project / result).unlink()
    said = snakemake(project, result, "--verbose")
    assert "rule train: wide [paper]" in said and "wide [paper] seed 1: epoch 3/3" in said and not counts(said)
    (project / TARGET).unlink()
    assert "localrule aggregate:" in snakemake(project, TARGET)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_demo_prints_fewer_lines_than_it_may(tmp_path):
    """Snakemake's part, run with made-up scripts, the recipe's other lines, and the table of its runs."""
    copy_project(tmp_path)
    (tmp_path / "demo.yaml").write_text((PROJECT / "demo.yaml").read_text())
    recipe = re.search(r"\ndemo: .*\n((?:\t.*\n)+)", (PROJECT / "Makefile").read_text())[1]
    words = re.search(r"\$\(RUN\) snakemake (.*)\n", recipe)[1].split()
    said = snakemake(make_up(tmp_path), *words)
    trained = sorted((tmp_path / "demo/results/train").glob("*/*"))
    assert counts(said)[-1].startswith(f"{len(trained)} of {len(trained)} runs trained, ") and len(trained) > 40
    progress = 6  # it takes at most 12 minutes on two cores: a line every two minutes
    verdicts = 20
    table = accuracies_text(summary_of_the_demo())
    assert len(said.splitlines()) + progress + verdicts + recipe.count("echo") + len(table.splitlines()) < MOST_LINES
    assert max(map(len, [*said.splitlines(), *table.splitlines()])) < 500
    assert recipe.index("afmp.cli accuracies demo/results") < recipe.index("afmp.cli claims demo/results")


def summary_of_the_demo() -> pandas.DataFrame:
    """Return a summary with the runs of the demo, of two seeds each."""
    from afmp.study.semantics import trained_under
    from afmp.study.study import resolve_study

    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    rows = [
        (study["name"], member["run"], member["label"], trained_under(member, semantics))
        for study in resolve_study(config).studies
        for semantics in study["semantics"]
        for member in study["members"]
    ]
    summary = pandas.DataFrame(rows, columns=["study", "run", "label", "semantics"])
    numbers = {"n": 2, "dataset": "digits", "test_accuracy_mean": 50.0, "test_accuracy_std": 1.0}
    return summary.assign(**numbers, test_accuracy_ci95_low=None, test_accuracy_ci95_high=None)
