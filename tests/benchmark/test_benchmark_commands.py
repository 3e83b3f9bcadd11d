"""The subcommands of `afmp benchmark` measure, write their file and print a table."""

import json

import numpy as np
import pytest

from afmp import cli, records


def test_sweep(tmp_path, capsys):
    output = tmp_path / "scalability.json"
    flags = {"models": "deit_tiny", "resolutions": "32,48", "batch-size": "2,1", "mode": "inference"}
    flags |= {"attention": "plain", "num-classes": 10, "device": "cpu", "warmup": 1, "repeats": 2, "output": output}
    assert cli.main(["benchmark", "sweep", *(f"--{flag}={value}" for flag, value in flags.items())]) == 0
    points = records.read_scalability(output)["points"]
    keys = ("model", "resolution", "batch_size", "mode", "attention")
    assert [tuple(point[key] for key in keys) for point in points] == [
        ("deit_tiny", 32, 2, "inference", "plain"),
        ("deit_tiny", 48, 1, "inference", "plain"),
    ]
    shown = capsys.readouterr()
    assert "deit_tiny" in shown.out
    assert "[1/2] deit_tiny at 32 px" in shown.err


@pytest.mark.parametrize(("semantics", "name"), [("paper", "afmp_tiny"), ("refined", "afmp_refined_tiny")])
def test_training(tmp_path, capsys, semantics, name):
    output = tmp_path / "training.json"
    flags = [f"--semantics={semantics}", "--device=cpu", "--warmup=1", "--repeats=2", f"--output={output}"]
    assert cli.main(["benchmark", "training", *flags]) == 0
    training = json.loads(output.read_text())
    (row,) = training["rows"]
    assert list(training["models"]) == list(row["step_ms"]) == [name, "vit"]
    # From the times in the same file, however busy the machine was: images per second, and the ratio of n-th steps.
    speeds = {model: training["batch_size"] * 1000 / np.array(times["all"]) for model, times in row["step_ms"].items()}
    found = {"ratio": row["ratio"]} | row["images_per_second"]
    for key, values in ({"ratio": speeds[name] / speeds["vit"]} | speeds).items():
        quartiles = dict(zip(("q25", "median", "q75"), np.quantile(values, (0.25, 0.5, 0.75)), strict=True))
        assert len(values) == 2 and found[key] == pytest.approx(quartiles, rel=1e-4)
    assert row["cpu_threads"] >= 1
    assert "images/s" in capsys.readouterr().out


def test_training_on_a_cpu_has_no_tf32(capsys):
    assert cli.main(["benchmark", "training", "--device=cpu", "--precision=tf32"]) == 2
    assert "precision: 'tf32' found" in capsys.readouterr().err


def test_selection(tmp_path, capsys):
    output = tmp_path / "selection.json"
    flags = ["--device=cpu", "--resolutions=64,224", "--batch-size=2,1", "--warmup=1", "--repeats=3"]
    assert cli.main(["benchmark", "selection", *flags, f"--output={output}"]) == 0
    rows = json.loads(output.read_text())["rows"]
    assert [(r["num_patches"], r["batch_size"], r["num_kept"]) for r in rows] == [(16, 2, 4), (196, 1, 58)]
    assert all(set(row["time_ms"]) == {"pytorch"} and row["time_ms"]["pytorch"]["n"] == 3 for row in rows)
    assert "196 nodes, batch 1, k 58" in capsys.readouterr().out


def test_profile(tmp_path, capsys):
    output = tmp_path / "profile.json"
    flags = ["--device=cpu", "--resolutions=32", "--batch-size=1", "--mode=inference", f"--output={output}"]
    assert cli.main(["benchmark", "profile", *flags]) == 0
    afmp, deit, refined = json.loads(output.read_text())["profiles"]
    assert (afmp["model"], afmp["attention"]) == ("afmp_small", None)
    assert (deit["model"], deit["attention"]) == ("deit_tiny", "fused")
    assert (refined["model"], refined["attention"]) == ("afmp_refined_small", None)
    for point in (afmp, deit, refined):
        assert point["time_ms"]["n"] == 10 and sum(row["ms"] for row in point["rows"]) == pytest.approx(point["ms"])
        assert "aten::addmm" in [row["name"] for row in point["rows"]]
    assert "operators" in capsys.readouterr().out
    assert cli.main(["benchmark", "profile", *flags, "--execution=graph"]) == 2
    assert "CUDA graphs exist on CUDA devices only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sweep --resolutions 100 --device cpu", "100 px"),
        ("selection --resolutions 64 --batch-size 2,1 --device cpu", "batch_size: 2 values found for 1 resolutions"),
        ("selection --repeats 0 --device cpu", "repeats is 0"),
        ("training --warmup 0 --device cpu", "warmup is 0"),
        ("profile --models vit --device cpu", "models is 'vit'"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(capsys, arguments, message):
    assert cli.main(["benchmark", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert message in shown.err and shown.err.startswith(f"afmp benchmark {arguments.split()[0]}: ")
