"""Archives: they contain a finished study, refuse anything else, and suffice to draw its figures."""

import gzip
import json
import os
import re
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import PROJECT
from finished_study import CHANGES, fill_results
from PIL import Image
from workflow_runs import append, copy_project, snakemake, write_study

from afmp import records
from afmp.cli import main
from afmp.errors import AfmpError
from afmp.figures.catalogue import figures, last_diagnostics
from afmp.figures.parts.image import read_test_image
from afmp.finished import archive, manifest
from afmp.finished.archive import write_archive
from afmp.finished.archive_figures import draw_archive
from afmp.study.paths import TABLES, diagnostics_file
from afmp.study.study import resolve_study


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with a small finished study and its archive; config.yaml is then another study."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    write_study(folder, CHANGES)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    fill_results(folder / "results", resolve_study(config))
    write_archive(config, results=folder / "results", archive=folder / "archive/2026-01-02-h100")
    shutil.copy(PROJECT / "config.yaml", folder)
    return folder


@pytest.fixture
def config() -> dict:
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    for section, values in CHANGES.items():
        config[section] = config[section] | values if section in ("dataset", "training") else values
    return config


@pytest.fixture
def results(project, tmp_path) -> Path:
    """Finished results that a test may break."""
    return Path(shutil.copytree(project / "results", tmp_path / "results"))


@pytest.fixture
def kept(project, tmp_path) -> Path:
    """An archive that a test may break."""
    return Path(shutil.copytree(project / "archive/2026-01-02-h100", tmp_path / "archive/2026-01-02-h100"))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_archive_contains_every_number_and_no_weights(project):
    kept, results = project / "archive/2026-01-02-h100", project / "results"
    manifest = json.loads((kept / "MANIFEST.json").read_text())["files"]
    assert files(kept) == {"MANIFEST.json", *manifest}
    own = {"MANIFEST.json", "config.yaml", "study.json", "test_images/0.png"}
    assert files(kept) - own == {
        path for path in files(results) if not path.endswith(".safetensors") and path != "README.md"
    }
    for path in files(kept) - own:
        if path.endswith(".json"):
            assert json.loads((kept / path).read_text()) == json.loads((results / path).read_text())
        else:
            assert (kept / path).read_bytes() == (results / path).read_bytes()
    assert resolve_study(yaml.safe_load((kept / "config.yaml").read_text())).seeds == [0, 1]


def test_the_command_makes_the_same_archive(study_to_break, tmp_path):
    """It verifies the study first, so its files must agree."""
    results, config = study_to_break / "results", study_to_break / "config.yaml"
    made, kept = tmp_path / "archive/new", tmp_path / "archive/kept"
    assert main(["archive", str(results), str(made), "--config", str(config)]) == 0
    study = yaml.safe_load(config.read_text())
    write_archive(study, results=results, archive=kept)
    assert files(made) == files(kept) and all((made / p).read_bytes() == (kept / p).read_bytes() for p in files(kept))
    written = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    write_archive(study, results=results, archive=made)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == written


@pytest.mark.promise("unfinished-study-not-archived")
@pytest.mark.parametrize(
    "path",
    [
        "train/paper/top_down/seed_1/results_top_down.json",
        "train/notebook/sparse_0.3/seed_0/diagnostics.json",
        "benchmark_scalability/notebook/scalability.json",
        "aggregate/differences.csv",
        "figures/paper/comparison_topdown_vs_no.pdf",
    ],
)
def test_an_unfinished_study_is_refused(results, config, tmp_path, path):
    (results / path).unlink()
    with pytest.raises(AfmpError, match=f"unfinished: {path} is missing"):
        write_archive(config, results=results, archive=tmp_path / "archive")
    assert not (tmp_path / "archive").exists()


@pytest.mark.promise("unfinished-study-not-archived")
def test_results_of_another_configuration_are_refused(results, config, tmp_path):
    config["training"]["learning_rate"] = 0.5
    with pytest.raises(AfmpError, match=r"results_top_down\.json: computed with another configuration"):
        write_archive(config, results=results, archive=tmp_path / "archive")


def test_large_figures_are_left_out_and_large_numbers_packed(results, config, tmp_path, monkeypatch):
    (results / "figures/notebook_vs_paper.pdf").write_bytes(bytes(archive.MAX_FILE_BYTES + 1))
    write_archive(config, results=results, archive=tmp_path / "one")
    assert "figures/notebook_vs_paper.png" in files(tmp_path / "one")
    assert "figures/notebook_vs_paper.pdf" not in files(tmp_path / "one")

    gates = diagnostics_file("paper", "top_down", 0)
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 3500)
    write_archive(config, results=results, archive=tmp_path / "two")
    assert f"{gates}.gz" in files(tmp_path / "two") and gates not in files(tmp_path / "two")
    assert all((tmp_path / "two" / path).stat().st_size <= 3500 for path in files(tmp_path / "two") - {"MANIFEST.json"})
    monkeypatch.setattr("afmp.finished.archive_figures.figures", lambda study: [])
    draw_archive(tmp_path / "two", tmp_path / "drawn", finished=tmp_path / "finished")
    assert (tmp_path / "drawn/plot_diagnostics/paper/top_down/epoch_0003.png").exists()

    monkeypatch.undo()
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 100)
    with pytest.raises(AfmpError, match=r"json\.gz: [\d,]+ bytes; a file of an archive may have 100\."):
        write_archive(config, results=results, archive=tmp_path / "three")


@pytest.mark.promise("incomplete-archive")
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_archive_is_refused_before_anything_is_drawn(kept, tmp_path, damage):
    path = kept / "train/paper/top_down/seed_0/results_top_down.json"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("digits", "letters"))
    with pytest.raises(AfmpError, match=r"seed_0/results_top_down\.json: .*MANIFEST\.json"):
        draw_archive(kept, tmp_path / "drawn", finished=tmp_path / "finished")
    assert not (tmp_path / "drawn").exists()


def test_diagnostics_are_drawn_over_the_archived_image(project):
    study = json.loads((project / "archive/2026-01-02-h100/study.json").read_text())
    drawing = last_diagnostics(study)[0]
    assert drawing.path == "plot_diagnostics/paper/top_down/epoch_0003"
    image = read_test_image(project / "archive/2026-01-02-h100", drawing.dataset, 0)
    original = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)[0]
    assert drawing.settings == {"epoch": 3} and (image == original).all()


@pytest.mark.long
def test_the_workflow_draws_the_newest_archive_without_dataset_or_training(project):
    """config.yaml is another study; that of the archive is drawn."""
    older = project / "archive/2025-12-31-h200"
    older.mkdir()
    (older / "MANIFEST.json").write_text("not JSON")
    hidden = project / "results.hidden"
    os.rename(project / "results", hidden)
    try:
        said = snakemake(project, "figures_from_archive", "claims_from_archive", "tables_from_archive")
        assert "rule train" not in said and "rule prepare_data" not in said
        answers = project / "results/claims_from_archive"
        assert "top_down_refinement has no run sparse_0.3_top_down" in (answers / "claims.csv").read_text()
        endings = ("csv", "html", "md", "rst", "tex", "yaml")
        assert files(answers) - {".snakemake_timestamp"} == {f"claims.{ending}" for ending in endings}
        printed = project / "results/tables_from_archive/aggregate"
        assert all("Measured on" in (printed / f"{name}.tex").read_text() for name in ("summary", "differences"))
        drawn = project / "results/figures_from_archive"
        study = json.loads((project / "archive/2026-01-02-h100/study.json").read_text())
        expected = {file for drawing in [*figures(study), *last_diagnostics(study)] for file in drawing.files}
        assert (
            files(drawn) - {".snakemake_timestamp"} == expected
            and "figures/paper/comparison_topdown_vs_no.png" in expected
        )
        with Image.open(drawn / "figures/paper/scalability_results.png") as image:
            assert image.width > 1000
        assert "Nothing to be done" in snakemake(project, "figures_from_archive")
        # A picture that is deleted is made again, and no other one is drawn for that.
        picture = drawn / "figures/paper/scalability_results.png"
        picture.unlink()
        (drawn / "figures/paper/of_another_archive.png").write_text("x")
        kept = project / "results/checkpoints/figures_from_archive"
        times = {path: path.stat().st_mtime_ns for path in kept.rglob("*.png")}
        snakemake(project, "figures_from_archive")
        assert picture.exists() and files(drawn) == expected
        assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.png")} == times
        said = snakemake(project, "figures_from_archive", "--config", "archive=archive/other", check=False)
        assert "archive/other: no archive there" in said and "Traceback" not in said
        assert (drawn / "figures/paper/scalability_results.png").exists()
        said = snakemake(project, "figures_from_archive", "--config", f"archive={older}", check=False)
        assert "2025-12-31-h200/MANIFEST.json: not a JSON file" in said and "Traceback" not in said
    finally:
        shutil.rmtree(project / "results", ignore_errors=True)
        os.rename(hidden, project / "results")
        shutil.rmtree(older)


def test_without_an_archive_drawing_is_refused_and_all_else_is_planned(tmp_path):
    folder = copy_project(tmp_path)
    said = snakemake(folder, "figures_from_archive", check=False)
    assert "archive: no archive there" in said and "Traceback" not in said
    said = snakemake(folder, "all", "--dry-run", "--verbose")
    assert "archive" not in said.rsplit("Job stats:", 1)[1]
    # The workflow makes all that an archive needs.
    study = resolve_study(yaml.safe_load((folder / "config.yaml").read_text())).to_dict()
    needed = {file for drawing in figures(study) for file in drawing.files}
    assert set(re.findall(r"results/(figures/[\w/]+\.\w+)", said)) == needed
    assert set(re.findall(r"results/(?:aggregate/)?(\w+)\.csv", said)) == set(TABLES)


def test_a_study_in_a_folder_of_its_own_has_its_archives_there(project, tmp_path):
    """As long as it has none, the newest archive of the clone is drawn."""
    clone, own = project / "archive/2026-01-02-h100", tmp_path / "own"
    where, drawn = ["--directory", str(own)], "figures_from_archive"
    snakefile = (project / "Snakefile").read_text()
    append(project / "Snakefile", "\nPath('new').write_text(NEW_ARCHIVE)\n")
    try:
        said = snakemake(project, drawn, *where, "--dry-run")
        assert f": draws {os.path.relpath(clone, own)}," in said
        assert (own / "new").read_text() == f"archive/{date.today()}"
        shutil.copytree(clone, own / "archive/2025-01-01")
        said = snakemake(project, drawn, *where, "--dry-run")
        assert ": draws archive/2025-01-01," in said and clone.name not in said
        name = ["--config", "archive=archive/other"]
        said = snakemake(project, drawn, *where, *name, check=False)
        assert f"archive/other: no archive there, seen from {own}: it has no" in said and "Traceback" not in said
        shutil.copytree(clone, own / "archive/other")
        assert ": draws archive/other," in snakemake(project, drawn, *where, *name, "--dry-run")
        assert (own / "new").read_text() == "archive/other"
    finally:
        (project / "Snakefile").write_text(snakefile)


def rewrite_manifest(kept: Path, change) -> None:
    manifest = json.loads((kept / "MANIFEST.json").read_text())
    manifest.pop("checksum", None)
    change(manifest)
    (kept / "MANIFEST.json").write_text(json.dumps(records.with_checksum(manifest)))


@pytest.mark.promise("nothing-unpickled")
def test_nothing_outside_an_archive_is_read_and_no_link_out_followed(kept, tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    entry = manifest.entry(secret.read_bytes())
    for path in ("../../secret.json", str(secret)):
        rewrite_manifest(kept, lambda manifest, path=path: manifest["files"].update({path: entry}))
        with pytest.raises(AfmpError, match=r"secret\.json: outside of the archive"):
            draw_archive(kept, tmp_path / "drawn", finished=tmp_path / "finished")
        rewrite_manifest(kept, lambda manifest, path=path: manifest["files"].pop(path))
    (kept / "study.json").unlink()
    (kept / "study.json").symlink_to(secret)
    rewrite_manifest(kept, lambda manifest: manifest["files"].update({"study.json": entry}))
    with pytest.raises(AfmpError, match=r"study\.json: outside of the archive"):
        draw_archive(kept, tmp_path / "drawn", finished=tmp_path / "finished")
    assert not (tmp_path / "drawn").exists()


def test_files_that_the_manifest_does_not_name_are_ignored(kept, tmp_path, monkeypatch):
    (kept / "study.json.gz").write_bytes(gzip.compress(b"not the study that was checked"))
    monkeypatch.setattr("afmp.finished.archive_figures.figures", lambda study: [])
    draw_archive(kept, tmp_path / "drawn", finished=tmp_path / "finished")
    assert (tmp_path / "drawn/plot_diagnostics/paper/top_down/epoch_0003.png").exists()


def test_an_archive_of_another_format_is_refused(kept, tmp_path):
    rewrite_manifest(kept, lambda manifest: manifest.update(format_version=2))
    with pytest.raises(AfmpError, match=r"MANIFEST\.json: manifest file of format 2, but this AFMP reads format 1"):
        draw_archive(kept, tmp_path / "drawn", finished=tmp_path / "finished")
