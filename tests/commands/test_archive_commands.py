"""Commands on an archive: all open it by the same door, and `afmp verify` checks it by itself."""

import shutil
from pathlib import Path

import pytest
import yaml
from archived_study import replace_file, small_config
from finished_study import CLAIMS, fill_results

from afmp import cli
from afmp.analysis.table_files import write_tables
from afmp.analysis.tables import run_tables, sweep_tables
from afmp.finished.answered_claims import write_answers
from afmp.finished.archive import write_archive
from afmp.finished.expected import write_expected
from afmp.finished.results_folder import ResultsFolder
from afmp.study.paths import CLAIMS_FILE, PARAMETERS_FILE, files_of_table, scalability_file
from afmp.study.study import resolve_study

SEEDS = [0, 1, 2]
RESULT = "train/paper/top_down/seed_1/results_top_down.json"
SUMMARY = "aggregate/summary.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with the results, the archive and the configuration of a small study with real tables."""
    folder = tmp_path_factory.mktemp("made")
    config = small_config() | {"seeds": SEEDS}
    study, results = resolve_study(config), folder / "results"
    fill_results(results, study)
    opened = ResultsFolder(results, study)
    trained = [path for path, record in opened.records.items() if record.kind == "result"]
    measured = [PARAMETERS_FILE, *map(scalability_file, study.swept_semantics)]
    counts, *sweeps = opened.read_records(measured).values()
    tables = run_tables(list(opened.read_records(trained).values()), study.studies) | sweep_tables(sweeps, counts)
    for name, table in tables.items():
        write_tables({name: table}, in_folder(results, files_of_table(name)))
    write_answers(CLAIMS, opened, in_folder(results, files_of_table("claims") | {"answered": CLAIMS_FILE}))
    write_archive(config, results=results, archive=folder / "archive")
    write_expected(folder / "archive")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def in_folder(folder: Path, files: dict[str, str]) -> dict[str, str]:
    return {key: str(folder / file) for key, file in files.items()}


@pytest.fixture
def kept(made, tmp_path, monkeypatch) -> Path:
    """An archive that a test may break, seen from a folder that is no project."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(made / "archive", tmp_path / "kept"))


def said(capsys, *words: str | Path) -> tuple[int, str, str]:
    return cli.main(list(map(str, words))), *capsys.readouterr()


@pytest.mark.parametrize(
    "words",
    [
        "accuracies kept",
        "claims kept",
        "compare kept top_down_refinement",
        "scalars kept --output o",
        "draw kept --output o",
        "expect kept",
    ],
)
def test_every_command_refuses_a_changed_file_and_says_to_restore_it(kept, capsys, words):
    (kept / SUMMARY).write_text((kept / SUMMARY).read_text().replace("digits", "others"))
    status, out, err = said(capsys, *words.split())
    assert (status, out) == (2, "") and f"{SUMMARY}: not the file" in err
    assert "git checkout" in err and "delete" not in err and not Path("o").exists()


def test_an_archive_is_read_with_its_own_configuration_and_claims(kept, capsys):
    """The order of words does not matter, and there is no config.yaml or claims.yaml to fall back on."""
    for words in (["notebook_vs_paper", "--output", "o"], ["--output", "o", "notebook_vs_paper"]):
        status, out, _ = said(capsys, "draw", kept, *words)
        assert (status, out) == (0, "o/figures/notebook_vs_paper.png\n")
    assert said(capsys, "accuracies", kept)[0] == said(capsys, "claims", kept, "--short")[0] == 0


def test_a_whole_archive_passes(kept, capsys):
    status, out, err = said(capsys, "verify", kept)
    assert (status, err) == (0, "") and "FAIL" not in out and "PASS  table claims, computed again" in out


def forge_summary(kept: Path) -> None:
    """Change a number, and the manifest so that it names the changed table."""
    lines = (kept / SUMMARY).read_text().splitlines()
    column = lines[0].split(",").index("test_accuracy_mean")
    cells = lines[1].split(",")
    cells[column] = "99.5"
    replace_file(kept, SUMMARY, "\n".join([lines[0], ",".join(cells), *lines[2:], ""]).encode())


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda kept: (kept / RESULT).write_text("{}"), f"{RESULT}: not the file that MANIFEST.json names"),
        (lambda kept: (kept / RESULT).unlink(), f"{RESULT}: missing, but MANIFEST.json names it"),
        (lambda kept: (kept / "train/extra.json").write_text("{}"), "train/extra.json: is no part of this archive"),
        (forge_summary, "summary.csv: line 2, test_accuracy_mean: '99.5', "),
        (lambda kept: replace_file(kept, RESULT, b"{"), f"{RESULT}: not a JSON file"),
    ],
    ids=["changed", "missing", "added", "forged with its manifest", "no JSON"],
)
def test_verify_names_what_is_wrong_and_never_says_to_delete_it(kept, capsys, damage, named):
    damage(kept)
    status, out, err = said(capsys, "verify", kept)
    assert status == 2 and named in out and "git checkout" in err
    assert "delete it" not in out + err


def test_verify_sees_edited_ranges_beside_other_faults(kept, capsys):
    expected = kept / "expected.yaml"
    content = yaml.safe_load(expected.read_text())
    content["test_accuracy"]["paper"]["top_down"]["low"] = 0.5
    expected.write_text(yaml.safe_dump(content))
    (kept / SUMMARY).write_text("")
    status, out, _ = said(capsys, "verify", kept)
    assert status == 2 and "expected.yaml: not the ranges that the records give" in out


def test_claims_of_a_study_are_those_beside_its_results(made, tmp_path, monkeypatch, capsys):
    study = tmp_path / "my_study"
    shutil.copytree(made / "results", study / "results")
    name, claim = next(iter(CLAIMS["claims"].items()))
    for folder, words in ((study, "mine"), (tmp_path, "another's")):
        (folder / "claims.yaml").write_text(yaml.safe_dump({"claims": {name: claim | {"claim": words}}}))
    monkeypatch.chdir(tmp_path)
    _, out, _ = said(capsys, "claims", "my_study/results", "--config", made / "config.yaml")
    assert "mine" in out and "another's" not in out


def test_a_table_of_another_study_is_not_shown_as_that_of_config(made, tmp_path, capsys):
    words = "accuracies", made / "results", "--config"
    assert said(capsys, *words, made / "config.yaml")[0] == 0
    other = yaml.safe_load((made / "config.yaml").read_text())
    other["studies"]["renamed"] = other["studies"].pop(next(iter(other["studies"])))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(other))
    status, out, err = said(capsys, *words, tmp_path / "config.yaml")
    assert (status, out) == (2, "") and "is in one of them only" in err
