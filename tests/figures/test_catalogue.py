"""The catalogue draws from records alone, by hand as in the workflow, and each figure depends on its own module."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from conftest import PROJECT
from PIL import Image
from safetensors.numpy import save_file
from synthetic_results import synthetic_diagnostics, synthetic_point, synthetic_result, synthetic_scalability

from afmp import records
from afmp.cli import main
from afmp.errors import AfmpError
from afmp.figures.catalogue import diagnostics_figures, figure_module, figures, last_diagnostics
from afmp.sources import import_closure
from afmp.study.paths import dataset_file, diagnostics_file, image_file, result_file, scalability_file
from afmp.study.study import read_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of two runs under one semantics: config.yaml, and results/ with its records and dataset."""
    folder = tmp_path_factory.mktemp("study")
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    config["dataset"] = {"source": "digits", "path": None, "image_size": 32}
    config |= {"semantics": ["paper"], "seeds": [0, 1]}
    config["studies"] = {name: table for name, table in config["studies"].items() if name == "top_down_refinement"}
    config["training"]["epochs"] = 3
    config["scalability"]["device"] = "cpu"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results, study = folder / "results", read_study(folder / "config.yaml")
    for run in study.runs:
        # The synthetic runs have names of their own.
        synthetic = "top_down" if study.runs[run].model.use_top_down else "sparse_0.3"
        for seed in study.seeds:
            result = synthetic_result(synthetic, seed=seed) | {"run": run, "model_type": run}
            result["config"] = study.runs[run].to_dict()
            records.write_result(results / result_file("paper", run, seed), result)
            content = synthetic_diagnostics(epochs=(2, 3)) | {"run": run, "image_index": 1}
            records.write_diagnostics(results / diagnostics_file("paper", run, seed), content)
    points = [synthetic_point(model, size) for model in ("afmp_small", "deit_tiny") for size in (64, 96, 128)]
    records.write_scalability(results / scalability_file("paper"), synthetic_scalability(points))
    (results / "prepare_data").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    save_file({"test_images": images}, results / dataset_file("digits"))
    return folder


@pytest.fixture
def study(folder) -> dict:
    return read_study(folder / "config.yaml").to_dict()


def written(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_command_draws_the_figures_that_are_named(folder, tmp_path, capsys):
    command, options = ["draw", str(folder / "results")], ["--config", str(folder / "config.yaml")]
    options += ["--output", str(tmp_path)]
    assert main([*command, "scalability_fits", "diagnostics", *options]) == 0
    fits = {f"figures/paper/scalability_fits.{ending}" for ending in ("png", "pdf", "rst")}
    drawn = {path for path in written(tmp_path) if path.startswith("figures")}
    assert drawn == fits
    diagnostics = written(tmp_path) - drawn
    assert len(diagnostics) == 2 * 2 and all("/epoch_0003." in path for path in diagnostics)
    assert "scalability_fits.png" in capsys.readouterr().out
    assert main([*command, "scalability", *options]) == 2
    assert "'scalability' is no figure of" in (said := capsys.readouterr().err) and "scalability_fits" in said


def test_the_command_draws_every_figure_unless_some_are_named(folder, study, tmp_path):
    command = ["draw", str(folder / "results"), "--config", str(folder / "config.yaml"), "--output", str(tmp_path)]
    assert main(command) == 0
    assert written(tmp_path) == {file for one in [*figures(study), *last_diagnostics(study)] for file in one.files}


def test_the_image_of_diagnostics_is_the_same_from_a_dataset_and_from_an_archive(folder, study, tmp_path):
    (drawing,) = diagnostics_figures(study, semantics="paper", run=next(iter(study["runs"])), epochs=[2])
    drawing.write(source=folder / "results", folder=tmp_path / "dataset")
    archived = tmp_path / "archive"
    record = archived / drawing.records["diagnostics"]
    record.parent.mkdir(parents=True)
    record.write_bytes((folder / "results" / drawing.records["diagnostics"]).read_bytes())
    with pytest.raises(AfmpError, match=r"prepare_data/digits\.safetensors: test image 1 cannot be read"):
        drawing.write(source=archived, folder=tmp_path / "drawn")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)[1]
    (archived / image_file(1)).parent.mkdir()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(archived / image_file(1))
    drawing.write(source=archived, folder=tmp_path / "drawn")
    one, other = (tmp_path / name / drawing.files[0] for name in ("dataset", "drawn"))
    assert one.read_bytes() == other.read_bytes()


def test_a_figure_depends_on_its_own_module_and_on_no_other_figure(study):
    both = study | {"semantics": ["paper", "notebook"]}
    modules = {drawing.module for drawing in [*figures(both), *last_diagnostics(both)]}
    assert len(modules) > 4
    script = PROJECT / "workflow_scripts/plot_figure.py"
    files = {module: PROJECT / f"{module.replace('.', '/')}.py" for module in modules}
    for module in modules:
        assert set(import_closure(script, module)) & set(files.values()) == {files[module]}


def test_a_figure_without_a_module_of_its_name_has_the_four_panels(study):
    assert figure_module("mine") == "afmp.figures.parts.study_panels"
    assert replace(figures(study)[0], module=figure_module("mine")).name == "comparison_topdown_vs_no"
