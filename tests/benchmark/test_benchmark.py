"""The scalability sweep measures what it says and survives points that fail; parameter counts are right."""

import copy
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from afmp import cli, records
from afmp.analysis import sweep_tables as scalability_tables
from afmp.analysis.parameter_table import parameters_table
from afmp.benchmark import sweep as benchmark
from afmp.benchmark import text as benchmark_tables
from afmp.benchmark.join import join_resolutions
from afmp.benchmark.passes import interleaved_times
from afmp.errors import AfmpError

PROJECT = Path(__file__).resolve().parents[2]
FAULTY_MODELS = """
    import os, signal, time, torch

    def _model(loss):
        return torch.nn.Linear(1, 1), loss

    def build_out_of_memory(*, image_size, **_):
        def loss(images, labels):
            if image_size == 48:
                torch.empty(2**60)
            return images.mean() * torch.ones((), requires_grad=True)
        return _model(loss)

    def build_killed(**_):
        os.kill(os.getpid(), signal.SIGKILL)

    def build_broken(**_):
        raise RuntimeError("two lines,\\n   one message")

    def build_crashed(**_):
        os.kill(os.getpid(), signal.SIGSEGV)

    def build_lasting(*, image_size, **_):
        open(os.environ["AFMP_TEST_PID_FILE"], "w").write(str(os.getpid()))
        time.sleep(600)

    def build_heavy(**_):
        def loss(images, labels):
            weight = torch.ones(64 * 2**20, requires_grad=True)  # 256 MB, and as much again for its gradient
            return weight.mean() + images.mean()
        return _model(loss)
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Let `faulty(model, function)` replace a model of the registry by one of FAULTY_MODELS."""
    (tmp_path / "faulty_models.py").write_text(textwrap.dedent(FAULTY_MODELS))
    monkeypatch.syspath_prepend(tmp_path)

    def replace(model: str, function: str) -> None:
        monkeypatch.setitem(benchmark.MODEL_BUILDERS, model, f"faulty_models:{function}")

    return replace


def sweep(**changes) -> dict:
    arguments = {
        "semantics": "paper",
        "resolutions": [32, 48],
        "num_classes": 10,
        "device": "cpu",
        "warmup": 1,
        "repeats": 2,
        "progress": lambda line: None,
    }
    arguments |= changes
    arguments.setdefault("batch_sizes", [2] * len(arguments["resolutions"]))
    (scalability,) = benchmark.benchmark_scalability(**arguments | {"semantics": [arguments["semantics"]]}).values()
    return scalability


@pytest.fixture(scope="module")
def scalability() -> dict:
    return sweep(repeats=3)


def test_sweep_measures_both_models_in_turn_at_each_resolution(scalability):
    points = scalability["points"]
    assert [(p["model"], p["resolution"], p["num_patches"]) for p in points] == [
        ("afmp_small", 32, 4),
        ("deit_tiny", 32, 4),
        ("afmp_small", 48, 9),
        ("deit_tiny", 48, 9),
    ]
    assert [p["attention"] for p in points] == [None, "fused", None, "fused"]
    for point in points:
        assert (point["status"], point["error"]) == ("ok", None)
        assert (point["batch_size"], point["precision"], point["mode"]) == (2, "fp32", "train")
        assert (point["execution"], point["interleaved"]) == ("eager", True)
        spread = point["time_ms"]
        assert 0 < spread["min"] <= spread["q25"] <= spread["median"] <= spread["q75"] <= spread["max"]
        assert spread["n"] == len(spread["all"]) == 3
    assert scalability["device"]["type"] == "cpu"
    assert scalability["versions"]["timm"]


def test_memory_on_a_cpu_is_the_growth_of_the_resident_set(scalability):
    for point in scalability["points"]:
        memory = point["memory"]
        assert memory["kind"] == "resident_set_growth"
        assert memory["reserved_mb"] is None
        # Weights and gradients at the least: the growth is read around the whole life of the model.
        assert memory["peak_mb"] > 2 * point["num_parameters"] * 4 / 2**20
        assert memory["weights_mb"] >= point["num_parameters"] * 4 / 2**20
        assert memory["gradients_mb"] > 0.9 * point["num_parameters"] * 4 / 2**20
        assert memory["inputs_mb"] == pytest.approx(2 * (3 * point["resolution"] ** 2 * 4 + 8) / 2**20)
        parts = ("weights_mb", "gradients_mb", "inputs_mb", "activations_mb")
        assert sum(memory[part] for part in parts) == pytest.approx(memory["peak_mb"])


def test_memory_of_a_point_is_what_it_allocates_and_nothing_of_the_point_before(faulty):
    faulty("afmp_small", "build_heavy")
    heavy, light = sweep(resolutions=[32])["points"]
    assert 512 <= heavy["memory"]["peak_mb"] < 512 + 64
    assert light["memory"]["peak_mb"] < 200


def test_a_point_out_of_memory_is_recorded_and_the_sweep_goes_on(faulty):
    faulty("afmp_small", "build_out_of_memory")
    lines = []
    scalability = sweep(resolutions=[32, 48, 64], progress=lines.append)
    assert [p["status"] for p in scalability["points"]] == ["ok", "ok", "oom", "ok", "ok", "ok"]
    failed = scalability["points"][2]
    assert failed["time_ms"] is None
    assert failed["memory"] is None
    assert "memory" in failed["error"]
    assert len(lines) == 6
    assert "afmp_small at 48 px, fp32 train eager: out of memory" in lines[2]
    # The other model of the group is timed with nothing beside it.
    assert [p["interleaved"] for p in scalability["points"]] == [True, True, False, False, True, True]
    shown = benchmark_tables.format_table(scalability)
    assert "out of memory" in shown
    assert len(shown.split("DeiT / AFMP")[1].strip().splitlines()) == 1 + 2  # no ratio at 48 px
    # Columns stay apart for the slowest of passes too, of minutes.
    scalability["points"][0]["time_ms"] |= {"median": 123_456.789, "q25": 123_456.788, "q75": 123_456.790}
    row = benchmark_tables.format_table(scalability).splitlines()[2]
    assert re.search(r" 123456\.789 +\[123456\.788, 123456\.790\] +\d", row), row


@pytest.mark.parametrize(
    ("function", "status", "text"),
    [
        ("build_killed", "oom", "killed (SIGKILL)"),
        ("build_crashed", "error", "SIGSEGV"),
        ("build_broken", "error", "RuntimeError: two lines, one message"),
    ],
)
def test_a_point_that_fails_says_how(faulty, function, status, text):
    faulty("deit_tiny", function)
    points = sweep(resolutions=[32])["points"]
    assert points[0]["status"] == "ok"
    assert points[1]["status"] == status
    assert text in points[1]["error"]
    assert "\n" not in points[1]["error"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_measuring_process_ends_with_the_sweep(faulty, tmp_path, ending):
    # Run as a workflow runs it: a script without a `__main__` guard.
    script = tmp_path / "measure.py"
    script.write_text(
        "import sys\n"
        "from afmp.benchmark import sweep as benchmark\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "benchmark.MODEL_BUILDERS['afmp_small'] = 'faulty_models:build_lasting'\n"
        "benchmark.benchmark_scalability(semantics=['paper'], resolutions=[32], batch_sizes=[1], device='cpu')\n"
    )
    pid_file = tmp_path / "pid"
    environment = os.environ | {"AFMP_TEST_PID_FILE": str(pid_file), "PYTHONPATH": _python_path()}
    process = subprocess.Popen(
        [sys.executable, script, tmp_path], env=environment, stderr=subprocess.DEVNULL, cwd=PROJECT
    )
    try:
        assert _within(60, lambda: pid_file.exists() and pid_file.read_text()), "the point was never started"
        child = int(pid_file.read_text())
        process.send_signal(ending)
        assert process.wait(timeout=20) != 0
        assert _within(20, lambda: not _alive(child)), "the measuring process outlived the sweep"
    finally:
        process.kill()
        process.wait()


def _python_path() -> str:
    return os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _within(seconds: float, condition) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("fused_attention", [True, False])
def test_the_attention_flag_reaches_every_block_of_deit(fused_attention):
    from afmp.benchmark.measurement import build_deit_tiny

    model, _ = build_deit_tiny(image_size=32, num_classes=10, semantics=None, fused_attention=fused_attention)
    assert {block.attn.fused_attn for block in model.blocks} == {fused_attention}


@pytest.mark.long
def test_every_combination_asked_for_is_a_point():
    lines = []
    scalability = sweep(
        semantics="notebook",
        precisions=["fp32", "bf16"],
        modes=["train", "inference"],
        attentions=["fused", "plain"],
        resolutions=[32],
        progress=lines.append,
    )
    assert scalability["semantics"] == "notebook"
    keys = ("precision", "mode", "model", "attention")
    assert [tuple(point[key] for key in keys) for point in scalability["points"]] == [
        (precision, mode, *model)
        for precision in ("fp32", "bf16")
        for mode in ("train", "inference")
        for model in (("afmp_small", None), ("deit_tiny", "fused"), ("deit_tiny", "plain"))
    ]
    assert {point["status"] for point in scalability["points"]} == {"ok"}
    assert [point["memory"]["gradients_mb"] > 0 for point in scalability["points"]] == ([True] * 3 + [False] * 3) * 2
    assert lines[-1].startswith("[12/12] deit_tiny at 32 px, bf16 inference eager plain attention: ")
    ratios = benchmark_tables.ratios(scalability["points"])
    assert [(r.setting["precision"], r.setting["mode"], r.attention) for r in ratios] == [
        (precision, mode, attention)
        for precision in ("fp32", "bf16")
        for mode in ("train", "inference")
        for attention in ("fused", "plain")
    ]


def test_both_semantics_are_measured_beside_one_deit():
    lines = []
    found = benchmark.benchmark_scalability(
        semantics=["paper", "notebook"],
        resolutions=[32],
        batch_sizes=[2],
        num_classes=10,
        device="cpu",
        warmup=1,
        repeats=2,
        progress=lines.append,
    )
    assert [line.split(":")[0] for line in lines] == [
        "[1/3] afmp_small at 32 px, fp32 train eager [paper]",
        "[2/3] afmp_small at 32 px, fp32 train eager [notebook]",
        "[3/3] deit_tiny at 32 px, fp32 train eager fused attention",
    ]
    assert {meaning: scalability["semantics"] for meaning, scalability in found.items()} == {
        "paper": "paper",
        "notebook": "notebook",
    }
    paper, notebook = (scalability["points"] for scalability in found.values())
    assert [point["model"] for point in paper] == [point["model"] for point in notebook] == ["afmp_small", "deit_tiny"]
    assert paper[1] == notebook[1] and paper[0]["time_ms"] != notebook[0]["time_ms"]


def test_passes_are_timed_in_turn_and_one_that_fails_leaves_the_others():
    calls = []

    class Run:
        def __init__(self, name, fails_at=None):
            self.name, self.fails_at = name, fails_at

        def __call__(self):
            calls.append(self.name)
            if calls.count(self.name) == self.fails_at:
                raise RuntimeError("CUDA out of memory")

        def clean(self):
            calls.append(f"clean {self.name}")

    runs = {"a": Run("a"), "b": Run("b", fails_at=3)}
    times, failures = interleaved_times(runs, device=torch.device("cpu"), warmup=1, repeats=3, seconds=60)
    a, b = ["a", "clean a"], ["b", "clean b"]
    assert calls == [*a, *b, *a, *b, *a, "b", *a]
    assert len(times["a"]) == 3 and list(times) == ["a"]
    assert failures["b"]["status"] == "oom"


def test_slow_passes_are_repeated_less_often():
    class Lasting:
        def __init__(self, seconds):
            self.seconds = seconds

        def __call__(self):
            time.sleep(self.seconds)

        def clean(self):
            pass

    runs = {"slow": Lasting(0.1), "fast": Lasting(0.0)}
    times, _ = interleaved_times(runs, device=torch.device("cpu"), warmup=2, repeats=99, seconds=0.3)
    assert len(times["slow"]) == 5  # nor does it wait for the fast one, which has not had its seconds by then
    assert len(times["fast"]) == 99


def test_batches_above_224_px_hold_no_more_patches():
    resolutions = [64, 96, 224, 448, 896, 1792, 3584]
    assert benchmark.reduced_batch_sizes(resolutions, 64) == [64, 64, 64, 16, 4, 1, 1]


def test_what_only_cuda_has_is_skipped_and_said_where_asked_to():
    asked = {"precisions": ["fp32", "tf32"], "executions": ["eager", "graph"], "resolutions": [32]}
    scalability = sweep(**asked, skip_impossible=True)
    assert {(p["precision"], p["execution"]) for p in scalability["points"]} == {("fp32", "eager")}
    skipped = scalability["protocol"]["skipped"]
    assert len(skipped) == 2 and "'tf32'" in skipped[0] and "'graph'" in skipped[1]
    assert skipped[1] in benchmark_tables.format_table(scalability)
    assert "'graph'" in scalability_tables.scalability_caption([scalability])
    with pytest.raises(AfmpError, match="CUDA graphs exist on CUDA devices only"):
        sweep(executions=["graph"], skip_impossible=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_ctrl_c_never_reaches_a_measuring_process():
    """Not even before it runs its first line: the process that it is forked from has the signal blocked."""
    ask = "read -r _ _ _ server _ < /proc/$PPID/stat; sed -n 's/^Sig[BI][lg][kn]:\\t//p' /proc/{$server,$PPID}/status"
    # In an interpreter of its own, as one server serves a process, and here others may have started it.
    code = f"""
        from afmp.machine.isolation import run_isolated
        print(run_isolated("subprocess:check_output", {{"args": ["bash", "-c", {ask!r}]}}).decode())
    """
    said = subprocess.check_output([sys.executable, "-c", textwrap.dedent(code)], text=True)
    blocked, _, _, ignored = (int(mask, 16) for mask in said.split())
    assert blocked & ignored & 1 << signal.SIGINT - 1


def test_a_killed_sweep_goes_on_from_what_it_had(faulty, tmp_path):
    unfinished = tmp_path / "checkpoints" / "sweep.jsonl"

    def kill_after_one_size(line):
        if "48 px" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(resolutions=[32, 48, 64], progress=kill_after_one_size, unfinished=unfinished)
    first = json.loads(unfinished.read_text().splitlines()[1])["outcomes"]
    faulty("deit_tiny", "build_broken")  # whatever is measured from here on fails
    points = sweep(resolutions=[32, 48, 64], unfinished=unfinished)["points"]
    assert [p["status"] for p in points] == ["ok", "ok", "ok", "ok", "ok", "error"]
    assert points[0]["time_ms"] == first[0]["time_ms"]
    assert not unfinished.exists()


@pytest.mark.long
def test_what_another_protocol_measured_is_not_used_again(tmp_path):
    unfinished = tmp_path / "sweep.jsonl"

    def stop(line):
        raise KeyboardInterrupt

    for repeats in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            sweep(resolutions=[32], repeats=repeats, progress=stop, unfinished=unfinished)
        _, group = unfinished.read_text().splitlines()
        assert json.loads(group)["outcomes"][0]["time_ms"]["n"] == repeats


def test_table_has_a_flat_row_for_each_point(scalability, tmp_path):
    scalability = copy.deepcopy(scalability)
    scalability["points"][3] |= {
        "status": "oom",
        "error": "RuntimeError: out of memory",
        "num_parameters": None,
        "time_ms": None,
        "memory": None,
    }
    records.write_scalability(tmp_path / "scalability.json", scalability)
    table = scalability_tables.scalability_table(records.read_scalability(tmp_path / "scalability.json"))
    assert len(table) == 4
    first = table.iloc[0]
    assert first["time_median_ms"] == scalability["points"][0]["time_ms"]["median"]
    assert first["peak_memory_mb"] == scalability["points"][0]["memory"]["peak_mb"]
    assert first["torch_version"] == scalability["versions"]["torch"]
    assert table["status"].tolist() == ["ok", "ok", "ok", "oom"]
    assert table["time_median_ms"].isna().tolist() == [False, False, False, True]
    # Counts stay whole numbers beside an empty field.
    text = table.to_csv(index=False)
    assert str(scalability["points"][0]["num_parameters"]) + "," in text


def test_shown_ratios_are_deit_over_afmp(scalability):
    afmp, deit = scalability["points"][:2]
    ratio = deit["time_ms"]["median"] / afmp["time_ms"]["median"]
    shown = benchmark_tables.format_table(scalability).split("DeiT / AFMP")[1].splitlines()[1].split()
    assert shown[:7] == ["32", "4", "2", "fp32", "train", "eager", "fused"]
    assert float(shown[7]) == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutions": [32, 100]}, "resolutions: 100 px"),
        ({"resolutions": [32, 32]}, "resolutions: [32, 32]"),
        ({"models": ["vit"]}, "models: 'vit' found; allowed: afmp_small, deit_tiny"),
        ({"precisions": ["fp8"]}, "precision: 'fp8'"),
        ({"precisions": ["tf32"]}, "precision: 'tf32' found; TF32 products exist on CUDA devices only"),
        ({"executions": ["graph"]}, "execution: 'graph' found; CUDA graphs exist on CUDA devices only"),
        ({"executions": ["eager", "eager"]}, "execution: ['eager', 'eager'] found"),
        ({"modes": []}, "mode: [] found"),
        ({"batch_sizes": [1, 2, 3]}, "batch_size: 3 values found for 2 resolutions"),
        ({"batch_sizes": [0, 1]}, "batch_size: 0 found"),
        ({"device": "abacus"}, "device: 'abacus' is not on this machine"),
        ({"warmup": 0}, "warmup: 0 found"),
    ],
)
def test_a_mistake_names_key_and_value(changes, message):
    with pytest.raises(AfmpError) as raised:
        sweep(**changes)
    assert message in str(raised.value)


def test_schema_refuses_a_failed_point_with_numbers(scalability):
    scalability = copy.deepcopy(scalability)
    scalability["points"][0]["status"] = "oom"
    with pytest.raises(AfmpError, match="points/0"):
        records.validate(scalability, "scalability", where="test")


@pytest.mark.parametrize("kind", ["scalability", "parameters", "manifest"])
def test_schema_describes_every_key(kind):
    def undescribed(schema: dict, where: str):
        for key, value in schema.get("properties", {}).items():
            if "description" not in value:
                yield f"{where}/{key}"
            yield from undescribed(value, f"{where}/{key}")
        if "items" in schema:
            yield from undescribed(schema["items"], where)

    assert list(undescribed(records.schema(kind), kind)) == []


def test_parameter_counts_are_those_of_the_paper():
    parameters = benchmark.count_parameters()
    counts = {row["model"]: row["num_parameters"] for row in parameters["models"]}
    assert counts == {
        "afmp_small": 6_119_913,
        "deit_tiny": 5_543_716,
        "afmp_tiny": 435_688,
        "afmp_tiny_no_top_down": 386_152,
    }
    table = parameters_table(parameters)
    assert table["num_parameters"].tolist() == list(counts.values())
    assert table["resolution"].tolist() == [224, 224, 32, 32]
    assert set(table["num_classes"]) == {100}


def test_command_line_writes_the_file_and_shows_the_table(tmp_path, capsys):
    output = tmp_path / "scalability.json"
    flags = {"models": "deit_tiny", "resolutions": 32, "batch-size": 1, "warmup": 1, "repeats": 2}
    flags |= {"num-classes": 10, "attention": "plain", "device": "cpu", "output": output}
    status = cli.main(["benchmark", *(f"--{flag}={value}" for flag, value in flags.items())])
    shown = capsys.readouterr()
    assert status == 0
    assert records.read_scalability(output)["points"][0]["attention"] == "plain"
    assert "deit_tiny" in shown.out
    assert "[1/1] deit_tiny at 32 px" in shown.err


def test_command_line_takes_a_batch_for_each_resolution(tmp_path, capsys):
    output = tmp_path / "scalability.json"
    flags = {"models": "deit_tiny", "resolutions": "32,48", "batch-size": "2,1", "mode": "inference", "warmup": 1}
    flags |= {"repeats": 2, "num-classes": 10, "device": "cpu", "output": output}
    assert cli.main(["benchmark", *(f"--{flag}={value}" for flag, value in flags.items())]) == 0
    points = records.read_scalability(output)["points"]
    assert [(p["resolution"], p["batch_size"], p["mode"]) for p in points] == [
        (32, 2, "inference"),
        (48, 1, "inference"),
    ]


def test_command_line_times_training_steps_against_a_vit(tmp_path, capsys):
    output = tmp_path / "training.json"
    flags = ["--training", "--device=cpu", "--warmup=1", "--repeats=2", f"--output={output}"]
    assert cli.main(["benchmark", *flags]) == 0
    (row,) = json.loads(output.read_text())["rows"]
    speeds = row["images_per_second"]
    assert row["ratio"]["q25"] <= row["ratio"]["median"] <= row["ratio"]["q75"]
    assert row["ratio"]["median"] == pytest.approx(speeds["afmp_tiny"]["median"] / speeds["vit"]["median"], rel=0.3)
    assert row["cpu_threads"] >= 1
    assert "images/s" in capsys.readouterr().out
    assert cli.main(["benchmark", "--training", "--device=cpu", "--precision=tf32"]) == 2
    assert "precision: 'tf32' found" in capsys.readouterr().err


def test_command_line_times_the_selection_of_edges_by_itself(tmp_path, capsys):
    output = tmp_path / "selection.json"
    flags = ["--selection", "--device=cpu", "--resolutions=64,224", "--batch-size=2,1", "--warmup=1", "--repeats=3"]
    assert cli.main(["benchmark", *flags, f"--output={output}"]) == 0
    rows = json.loads(output.read_text())["rows"]
    assert [(r["num_patches"], r["batch_size"], r["num_kept"]) for r in rows] == [(16, 2, 4), (196, 1, 58)]
    assert all(set(row["time_ms"]) == {"pytorch"} and row["time_ms"]["pytorch"]["n"] == 3 for row in rows)
    assert "196 nodes, batch 1, k 58" in capsys.readouterr().out
    assert cli.main(["benchmark", *flags, "--resolutions=64"]) == 2
    assert "batch_size: 2 values found for 1 resolutions" in capsys.readouterr().err


def test_command_line_profiles_a_pass(tmp_path, capsys):
    output = tmp_path / "profile.json"
    flags = ["--profile", "--device=cpu", "--resolutions=32", "--batch-size=1", f"--output={output}"]
    assert cli.main(["benchmark", *flags]) == 0
    ours, theirs = json.loads(output.read_text())["profiles"]
    assert (ours["model"], ours["attention"]) == ("afmp_small", None)
    assert (theirs["model"], theirs["attention"]) == ("deit_tiny", "fused")
    for point in (ours, theirs):
        assert point["time_ms"]["n"] == 10 and sum(row["ms"] for row in point["rows"]) == pytest.approx(point["ms"])
        assert "aten::addmm" in [row["name"] for row in point["rows"]]
    assert "operators" in capsys.readouterr().out
    assert cli.main(["benchmark", *flags, "--execution=graph"]) == 2
    assert "CUDA graphs exist on CUDA devices only" in capsys.readouterr().err


def test_command_line_answers_a_mistake_with_one_line(capsys):
    assert cli.main(["benchmark", "--resolutions", "100", "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "100 px" in shown.err
    for text in ("a", "", "64,-1", "6.4"):
        with pytest.raises(SystemExit):
            cli.main(["benchmark", f"--resolutions={text}"])
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"--resolutions: found {text!r}; allowed: whole numbers with commas between them" in said


def test_command_line_counts_parameters(tmp_path, capsys):
    output = tmp_path / "parameters.json"
    assert cli.main(["parameters", "--num-classes", "10", "--output", str(output)]) == 0
    assert records.read_parameters(output)["num_classes"] == 10
    assert "deit_tiny" in capsys.readouterr().out


def test_asking_for_help_does_not_load_torch():
    code = (
        "import sys; from afmp import cli\n"
        "try: cli.main(['benchmark', '--help'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import json; {code}"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) is False


def test_a_sweep_without_cuda_keeps_to_what_ends_in_time_and_says_so():
    scalability = sweep(
        resolutions=[32, 448],
        precisions=["fp32", "bf16"],
        executions=["eager", "compiled"],
        models=["afmp_small"],
        skip_impossible=True,
    )
    assert [(p["resolution"], p["precision"], p["execution"]) for p in scalability["points"]] == [(32, "fp32", "eager")]
    assert "resolutions above 224 px" in scalability["protocol"]["skipped"][0]


def part_of(scalability: dict, resolution: int, **versions) -> dict:
    """The scalability file of one size alone."""
    points = [point for point in scalability["points"] if point["resolution"] == resolution]
    return scalability | {"points": points, "versions": scalability["versions"] | versions}


def test_sizes_measured_apart_are_one_sweep(scalability):
    parts = {f"{size}.json": part_of(scalability, size) for size in (48, 32)}
    joined = join_resolutions(parts)
    assert [point["resolution"] for point in joined["points"]] == [48, 48, 32, 32]
    in_order = join_resolutions(dict(reversed(parts.items())))
    assert in_order == scalability

    commits = {"48.json": ("a" * 40, False), "32.json": ("b" * 40, True)}
    apart = {
        path: part_of(scalability, int(path[:2]), git_commit=commit, git_dirty=dirty)
        for path, (commit, dirty) in commits.items()
    }
    joined = join_resolutions(apart)
    versions = joined["versions"]
    assert versions["git_commit"] == f"{'a' * 40}, {'b' * 40}" and versions["git_dirty"]
    table = scalability_tables.scalability_table(joined)
    assert list(table) == list(scalability_tables.scalability_table(scalability))
    for row in (*joined["points"], *table.to_dict("records")):
        assert (row["git_commit"], row["git_dirty"]) == commits[f"{row['resolution']}.json"]


@pytest.mark.parametrize(("group", "key"), [("device", "name"), ("versions", "torch"), ("protocol", "repeats")])
def test_sizes_measured_under_other_conditions_are_no_sweep(scalability, group, key):
    other = part_of(scalability, 32)
    other[group] = other[group] | {key: "another"}
    with pytest.raises(AfmpError, match=f"^32.json: {group}/{key} 'another' found, but 48.json has .*: delete the one"):
        join_resolutions({"48.json": part_of(scalability, 48), "32.json": other})


def test_a_size_that_the_whole_sweep_leaves_out_is_an_empty_part():
    """Without CUDA it is left out above 224 px, unless every size is."""
    common = {"models": ["afmp_small"], "skip_impossible": True}
    left_out = sweep(resolutions=[448], part_of=[32, 448], **common)
    assert left_out["points"] == [] and "above 224 px" in left_out["protocol"]["skipped"][0]
    measured = sweep(resolutions=[32], part_of=[32, 448], **common)
    joined = join_resolutions({"32.json": measured, "448.json": left_out})
    assert joined["points"] == measured["points"] and joined["protocol"] == left_out["protocol"]
    assert sweep(resolutions=[240], part_of=[240, 448], **common)["points"] != []
