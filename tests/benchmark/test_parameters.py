"""Counts of trainable parameters."""

import pytest

from afmp import cli, records
from afmp.analysis.parameter_table import parameters_caption, parameters_table
from afmp.benchmark.parameters import count_parameters
from afmp.errors import AfmpError


def test_counts_are_those_of_the_paper():
    parameters = count_parameters()
    counts = {row["model"]: row["num_parameters"] for row in parameters["models"]}
    assert counts == {
        "afmp_small": 6_119_913,
        "deit_tiny": 5_543_716,
        "afmp_refined_small": 1_939_722,
        "afmp_tiny": 435_688,
        "afmp_tiny_no_top_down": 386_152,
    }
    table = parameters_table(parameters)
    assert table["num_parameters"].tolist() == list(counts.values())
    assert table["resolution"].tolist() == [224, 224, 224, 32, 32]
    assert set(table["num_classes"]) == {100}
    caption = parameters_caption(parameters)
    assert "AFMP-Small / DeiT-Tiny = 1.104. AFMP-refined-Small / DeiT-Tiny = 0.350." in caption


@pytest.mark.parametrize(("arguments", "message"), [((0, 224), "num_classes is 0"), ((10, 100), "100 px")])
def test_an_error_names_the_value(arguments, message):
    with pytest.raises(AfmpError, match=message):
        count_parameters(*arguments)


def test_the_command_writes_the_file_and_prints_the_table(tmp_path, capsys):
    output = tmp_path / "parameters.json"
    assert cli.main(["parameters", "--num-classes", "10", "--output", str(output)]) == 0
    assert records.read_parameters(output)["num_classes"] == 10
    assert "deit_tiny" in capsys.readouterr().out
