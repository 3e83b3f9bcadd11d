"""The sweep measures every combination, records failed points and continues, and resumes when interrupted."""

import json

import pytest
from small_sweeps import measured_sweep, replace_models, small_settings, small_sweep

from afmp.analysis.ratios import ratios
from afmp.analysis.sweep_tables import scalability_caption
from afmp.benchmark.models import build_deit_tiny
from afmp.benchmark.sweep import run_sweep
from afmp.benchmark.text import format_sweep
from afmp.errors import AfmpError


def test_all_models_are_timed_in_turn_at_each_size():
    sweep = measured_sweep()
    points = sweep["points"]
    assert [(p["model"], p["resolution"], p["num_patches"]) for p in points] == [
        ("afmp_small", 32, 4),
        ("deit_tiny", 32, 4),
        ("afmp_refined_small", 32, 4),
        ("afmp_small", 48, 9),
        ("deit_tiny", 48, 9),
        ("afmp_refined_small", 48, 9),
    ]
    assert [p["attention"] for p in points] == [None, "fused", None] * 2
    assert [p["implementation"] for p in points] == ["pytorch", None, "pytorch"] * 2
    assert points[2]["num_parameters"] == points[5]["num_parameters"] == 1_916_592
    for point in points:
        assert (point["status"], point["error"]) == ("ok", None)
        assert (point["batch_size"], point["precision"], point["mode"]) == (2, "fp32", "train")
        assert (point["execution"], point["interleaved"]) == ("eager", True)
        spread = point["time_ms"]
        assert 0 < spread["min"] <= spread["q25"] <= spread["median"] <= spread["q75"] <= spread["max"]
        assert spread["n"] == len(spread["all"]) == 3
    assert sweep["device"]["type"] == "cpu"
    assert sweep["versions"]["timm"]


@pytest.mark.long
def test_every_combination_is_a_point():
    lines = []
    sweep = small_sweep(
        semantics=("notebook",),
        precision=("fp32", "bf16"),
        mode=("train", "inference"),
        attention=("fused", "plain"),
        resolutions=(32,),
        progress=lines.append,
    )
    assert sweep["semantics"] == "notebook"
    keys = ("precision", "mode", "model", "attention")
    assert [tuple(point[key] for key in keys) for point in sweep["points"]] == [
        (precision, mode, *model)
        for precision in ("fp32", "bf16")
        for mode in ("train", "inference")
        for model in (
            ("afmp_small", None),
            ("deit_tiny", "fused"),
            ("deit_tiny", "plain"),
            ("afmp_refined_small", None),
        )
    ]
    assert {point["status"] for point in sweep["points"]} == {"ok"}
    assert [point["memory"]["gradients_mb"] > 0 for point in sweep["points"]] == ([True] * 4 + [False] * 4) * 2
    assert lines[-2].startswith("[15/16] deit_tiny at 32 px, bf16 inference eager plain attention: ")
    assert [(r.model, r.setting["precision"], r.setting["mode"], r.attention) for r in ratios(sweep["points"])] == [
        (model, precision, mode, attention)
        for model in ("afmp_small", "afmp_refined_small")
        for precision in ("fp32", "bf16")
        for mode in ("train", "inference")
        for attention in ("fused", "plain")
    ]


def test_both_semantics_share_one_measurement_of_the_models_without_a_choice():
    lines = []
    settings = small_settings(semantics=("paper", "notebook"), resolutions=(32,))
    sweeps = run_sweep(settings, progress=lines.append)
    assert [line.split(":")[0] for line in lines] == [
        "[1/4] afmp_small at 32 px, fp32 train eager [paper]",
        "[2/4] afmp_small at 32 px, fp32 train eager [notebook]",
        "[3/4] deit_tiny at 32 px, fp32 train eager fused attention",
        "[4/4] afmp_refined_small at 32 px, fp32 train eager",
    ]
    assert {name: sweep["semantics"] for name, sweep in sweeps.items()} == {"paper": "paper", "notebook": "notebook"}
    paper, notebook = (sweep["points"] for sweep in sweeps.values())
    models = ["afmp_small", "deit_tiny", "afmp_refined_small"]
    assert [point["model"] for point in paper] == [point["model"] for point in notebook] == models
    assert paper[1:] == notebook[1:] and paper[0]["time_ms"] != notebook[0]["time_ms"]


@pytest.mark.parametrize("fused_attention", [True, False])
def test_the_attention_setting_reaches_every_block_of_deit(fused_attention):
    model, _ = build_deit_tiny(image_size=32, num_classes=10, semantics=None, fused_attention=fused_attention)
    assert {block.attn.fused_attn for block in model.blocks} == {fused_attention}


@pytest.mark.promise("failed-point")
def test_a_point_that_runs_out_of_memory_is_recorded_and_the_sweep_continues(monkeypatch):
    light = dict.fromkeys(("deit_tiny", "afmp_refined_small"), "build_light")
    replace_models(monkeypatch, afmp_small="build_out_of_memory_at_48_px", **light)
    lines = []
    sweep = small_sweep(resolutions=(32, 48, 64), progress=lines.append)
    assert [p["status"] for p in sweep["points"]] == ["ok"] * 3 + ["oom"] + ["ok"] * 5
    failed = sweep["points"][3]
    assert failed["time_ms"] is None
    assert failed["memory"] is None
    assert "memory" in failed["error"]
    assert len(lines) == 9
    assert "afmp_small at 48 px, fp32 train eager: out of memory" in lines[3]
    # The other models of the group are still timed in turn.
    assert [p["interleaved"] for p in sweep["points"]] == [True] * 3 + [False] + [True] * 5
    shown = format_sweep(sweep)
    assert "out of memory" in shown
    assert [row.split()[:2] for row in shown.split("DeiT / AFMP")[1].strip().splitlines()[1:]] == [
        ["afmp_small", "32"], ["afmp_small", "64"],  # no ratio at 48 px
        *(["afmp_refined_small", size] for size in ("32", "48", "64")),
    ]  # fmt: skip


@pytest.mark.promise("failed-point")
@pytest.mark.parametrize(
    ("function", "status", "text"),
    [
        ("build_killed", "oom", "killed (SIGKILL)"),
        ("build_crashed", "error", "SIGSEGV"),
        ("build_broken", "error", "RuntimeError: two lines, one message"),
    ],
)
def test_a_failed_point_records_the_reason(monkeypatch, function, status, text):
    replace_models(monkeypatch, afmp_small="build_light", deit_tiny=function)
    points = small_sweep(models=("afmp_small", "deit_tiny"), resolutions=(32,))["points"]
    assert points[0]["status"] == "ok"
    assert points[1]["status"] == status
    assert text in points[1]["error"]
    assert "\n" not in points[1]["error"]


TWO = {"models": ("afmp_small", "deit_tiny")}


def interrupt(line: str) -> None:
    raise KeyboardInterrupt


@pytest.mark.promise("killed-sweep-resumes")
def test_an_interrupted_sweep_resumes(monkeypatch, tmp_path):
    measured = tmp_path / "checkpoints" / "sweep.jsonl"

    def interrupt_at_second_size(line):
        if "48 px" in line:
            raise KeyboardInterrupt

    replace_models(monkeypatch, afmp_small="build_light", deit_tiny="build_light")
    with pytest.raises(KeyboardInterrupt):
        small_sweep(**TWO, resolutions=(32, 48, 64), progress=interrupt_at_second_size, measured=measured)
    first = json.loads(measured.read_text().splitlines()[0])["outcomes"]
    replace_models(monkeypatch, deit_tiny="build_broken")  # whatever is measured from now on fails
    points = small_sweep(**TWO, resolutions=(32, 48, 64), measured=measured)["points"]
    assert [p["status"] for p in points] == ["ok", "ok", "ok", "ok", "ok", "error"]
    assert points[0]["time_ms"] == first[0]["time_ms"]


@pytest.mark.promise("killed-sweep-resumes")
def test_a_finished_sweep_that_is_repeated_measures_nothing_but_what_failed(monkeypatch, tmp_path):
    measured = tmp_path / "sweep.jsonl"
    replace_models(monkeypatch, afmp_small="build_light", deit_tiny="build_light")
    first = small_sweep(**TWO, measured=measured)["points"]
    replace_models(monkeypatch, afmp_small="build_broken", deit_tiny="build_broken")
    again = small_sweep(**TWO, measured=measured)["points"]
    assert [point["time_ms"] for point in again] == [point["time_ms"] for point in first]
    assert {point["status"] for point in small_sweep(**TWO, measured=measured, repeats=3)["points"]} == {"error"}
    replace_models(monkeypatch, afmp_small="build_light", deit_tiny="build_light")
    assert {point["status"] for point in small_sweep(**TWO, measured=measured, repeats=3)["points"]} == {"ok"}
    # The points of the first protocol are still there.
    replace_models(monkeypatch, afmp_small="build_broken", deit_tiny="build_broken")
    assert [point["time_ms"] for point in small_sweep(**TWO, measured=measured)["points"]] == [
        p["time_ms"] for p in first
    ]


def test_points_measured_by_another_protocol_are_not_used(monkeypatch, tmp_path):
    replace_models(monkeypatch, afmp_small="build_light", deit_tiny="build_light")
    measured = tmp_path / "sweep.jsonl"
    for repeats in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            small_sweep(**TWO, resolutions=(32,), repeats=repeats, progress=interrupt, measured=measured)
        *_, group = measured.read_text().splitlines()
        assert json.loads(group)["outcomes"][0]["time_ms"]["n"] == repeats


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": ("tf32",)}, "precision: 'tf32' found; TF32 products exist on CUDA devices only"),
        ({"execution": ("graph",)}, "execution: 'graph' found; CUDA graphs exist on CUDA devices only"),
        (
            {"execution": ("reduce_overhead",)},
            "execution: 'reduce_overhead' found; CUDA graphs exist on CUDA devices only",
        ),
        ({"execution": ("graph",), "skip_impossible": True}, "CUDA graphs exist on CUDA devices only"),
        ({"device": "abacus"}, "device: 'abacus' is not on this machine"),
    ],
)
def test_an_error_names_what_the_device_lacks(changes, message):
    with pytest.raises(AfmpError) as raised:
        small_sweep(**changes)
    assert message in str(raised.value)


def test_values_that_only_cuda_has_are_skipped_and_reported(monkeypatch):
    replace_models(monkeypatch, afmp_small="build_light", deit_tiny="build_light")
    sweep = small_sweep(
        **TWO, precision=("fp32", "tf32"), execution=("eager", "graph"), resolutions=(32,), skip_impossible=True
    )
    assert {(p["precision"], p["execution"]) for p in sweep["points"]} == {("fp32", "eager")}
    skipped = sweep["protocol"]["skipped"]
    assert len(skipped) == 2 and "'tf32'" in skipped[0] and "'graph'" in skipped[1]
    assert skipped[1] in format_sweep(sweep)
    assert "'graph'" in scalability_caption([sweep])


def test_a_sweep_without_cuda_skips_what_takes_days_and_reports_it(monkeypatch):
    replace_models(monkeypatch, afmp_small="build_light", deit_tiny="build_light")
    sweep = small_sweep(
        resolutions=(32, 448),
        precision=("fp32", "bf16"),
        execution=("eager", "compiled"),
        models=("afmp_small",),
        skip_impossible=True,
    )
    assert [(p["resolution"], p["precision"], p["execution"]) for p in sweep["points"]] == [(32, "fp32", "eager")]
    assert "resolutions above 224 px" in sweep["protocol"]["skipped"][0]
