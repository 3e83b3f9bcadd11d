"""The option --config: overlays, one over the other, as Snakemake's --configfile takes them."""

import pytest
import yaml
from conftest import PROJECT

from afmp import cli
from afmp.records import read_result

SMALL = {
    "dataset": {"source": "digits", "image_size": 32},
    "model": {"num_layers": 1, "d_model": 8},
    "training": {"epochs": 1, "batch_size": 512, "device": "cpu", "visualize_every": 1},
}
TABLE = {"section": "A", "title": "T", "figure": "mine", "reference": "mine", "runs": [{"run": "mine"}]}


@pytest.fixture
def said(tmp_path, capsys):
    """Return a function that runs a command with overlays, and returns its exit status and both outputs."""

    def said(command: str, *overlays: dict) -> tuple[int, str, str]:
        words = command.split()
        for number, content in enumerate(overlays):
            path = tmp_path / f"{number}.yaml"
            path.write_text(yaml.safe_dump(content))
            words += ["--config", str(path)]
        return cli.main(words), *capsys.readouterr()

    return said


def test_train_takes_overlays_and_keeps_the_name_of_a_run(said, digits_file, tmp_path):
    """`mine` has the settings of sparse_0.3, under whose name the workflow would train it."""
    command = f"train --run mine --dataset {digits_file} --output {tmp_path}/out"
    status, out, err = said(command, SMALL | {"studies": {"own": TABLE}}, {"training": {"batch_size": 256}})
    assert status == 0 and out.startswith("seed 0: test accuracy "), err
    result = read_result(tmp_path / "out/seed_0/results_mine.json")
    assert (result["run"], result["semantics"]) == ("mine", "paper")
    assert result["config"]["training"]["batch_size"] == 256 and result["config"]["model"]["num_layers"] == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --run none --dataset x --output y", "--run: 'none' is no run of {0}, {1}; allowed: mine."),
        ("train --run mime --dataset x --output y", "--run: 'mime' is no run of {0}, {1} (did you mean 'mine'?); "),
        ("draw results none --output drawn", "FIGURE: 'none' is no figure of {0}, {1}; allowed: mine, "),
        ("draw results mime --output drawn", "FIGURE: 'mime' is no figure of {0}, {1} (did you mean 'mine'?); allowed"),
        ("compare {folder} none", "STUDY: 'none' is no study of {0}, {1}; allowed: own."),
        ("compare {folder} won", "STUDY: 'won' is no study of {0}, {1} (did you mean 'own'?); allowed: own."),
        (
            "compare {folder} own --reference mime",
            "--reference: 'mime' is no run of study own (did you mean 'mine'?); ",
        ),
    ],
)
def test_a_mistake_names_all_files(said, tmp_path, command, message):
    shipped = yaml.safe_load((PROJECT / "config.yaml").read_text())["studies"]
    overlays = SMALL, {"studies": dict.fromkeys(shipped) | {"own": TABLE}}
    status, _, err = said(command.format(folder=tmp_path), *overlays)
    assert status == 2 and message.format(tmp_path / "0.yaml", tmp_path / "1.yaml") in err


@pytest.mark.parametrize("command", ["draw . --output drawn", "compare . own", "claims .", "prepare --output x"])
def test_outside_the_project_a_command_asks_for_the_configuration(said, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    status, _, err = said(command)
    assert status == 2 and f"config.yaml: no such file in {tmp_path}; name the configuration" in err
    assert "--config FILE" in err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("draw results none --output drawn", "'none' is no figure"),
        ("compare {folder} none", "'none' is no study"),
        ("verify {folder}/results --dataset none --archives {folder}", "checks failed; each FAIL names a file"),
    ],
)
def test_images_need_not_be_there_to_read_results(said, tmp_path, command, message):
    """A relative path is that of the study's folder, and a copy of results is without the images."""
    shipped = yaml.safe_load((PROJECT / "config.yaml").read_text())["studies"]
    images = {"dataset": {"source": "folder", "path": "../nowhere"}, "scalability": None}
    status, _, err = said(command.format(folder=tmp_path), images, {"studies": dict.fromkeys(shipped) | {"own": TABLE}})
    assert status == 2 and message in err
