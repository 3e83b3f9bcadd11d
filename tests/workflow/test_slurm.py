"""profiles/slurm on a real SLURM: the resources of jobs, and a study whose jobs are requeued and cancelled.

What starts SLURM on this machine, from Debian's packages slurm-wlm and munge, runs only when asked for by
`pytest -m slurm`, as .ci/run does.
"""

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from conftest import PROJECT
from safetensors.numpy import load_file
from slurm_cluster import slurm_cluster

from afmp.records import read_result, read_scalability

pytestmark = pytest.mark.timeout(900)

EPOCHS = 12
SEEDS = [0, 1]
VIT = {
    "run": "vit",
    "architecture": "timm/vit_tiny_patch16_224",
    "arguments": {"embed_dim": 16, "depth": 1, "num_heads": 2},
}
# `dense` looks for a GPU and so requests one. SLURM only pretends to have it, so it trains on the CPU.
STUDY = {
    "semantics": ["paper"],
    "seeds": SEEDS,
    "model": {"num_layers": 2, "d_model": 16},
    "training": {"epochs": EPOCHS, "visualize_every": EPOCHS},
    "studies": {
        "sparsity_level": {"runs": [{"run": "dense", "is_sparse": False, "device": "auto"}, {"run": "sparse_0.3"}]},
        "regularisation": {"runs": [{"run": "sparse_0.3"}, {"run": "lambda_1e-3", "lambda_sparse": 1.0e-3}]},
        "top_down_refinement": {"runs": [{"run": "sparse_0.3"}, {"run": "top_down", "use_top_down": True}]},
        "messages": {"runs": [{"run": "all_edges"}], "defaults": {"epochs": EPOCHS, "visualize_every": EPOCHS}},
        "window": {
            "runs": [{"run": "all_edges", "scaffold": "delaunay", "window_size": 8}],
            "reference": "all_edges",
            "defaults": {"epochs": EPOCHS, "visualize_every": EPOCHS},
        },
        "accuracy_and_cost": {"runs": [VIT], "reference": "vit", "defaults": {"epochs": EPOCHS}},
        "sixteen_patches": {
            "runs": [{"run": "dense_16", "is_sparse": False}],
            "reference": "dense_16",
            "defaults": {"epochs": EPOCHS, "visualize_every": EPOCHS},
        },
    },
    "scalability": {"resolutions": [32, 64], "repeats": 2},
}
# Each run with its semantics.
RUNS = dict.fromkeys(["dense", "sparse_0.3", "lambda_1e-3", "top_down"], "paper")
RUNS |= {"all_edges": "refined", "dense_16": "refined", "vit": "timm"}
# One core per job, with and without the cluster: the last bits of a result depend on the number.
ONE_CORE = ["--set-threads", "train=1", "benchmark_resolution=1"]


@pytest.fixture
def slurm():
    """The environment of a cluster with four cores and one GPU."""
    with TemporaryDirectory(prefix="slurm-") as folder, slurm_cluster(Path(folder), cpus=4) as environment:
        yield environment


class Workflow:
    """A running Snakemake on a smaller demo study, in its own folder; a context manager that ends it."""

    def __init__(self, folder: Path, *arguments: str, environment: dict | None = None, study: dict = STUDY):
        self.folder, self.output = folder, folder.with_suffix(".out")
        overlay = folder.with_suffix(".yaml")
        overlay.write_text(yaml.safe_dump(study, sort_keys=False))
        command = [sys.executable, "-m", "snakemake", *arguments, "--directory", str(folder)]
        command += ["--configfile", "demo.yaml", str(overlay)]
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> "Workflow":
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # Snakemake then cancels its jobs
            self.process.wait()

    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, condition, *, seconds: float = 300):
        """Return the value of `condition` once it is true; fail if Snakemake exits before."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, f"still nothing after {seconds} s:\n{self.said()}"
            time.sleep(0.1)
        return found

    def submitted(self) -> Counter:
        """Return how often each run, and the rule of the sweep, was submitted, by the names of SLURM's logs."""
        found = re.findall(
            r"SLURM jobid \d+ \(log: \S*/slurm/rule_(\w+?)(?:/(?:paper|refined|timm)_(\S*)|/\d+)?/\d+\.log\)",
            self.said(),
        )
        return Counter(run or rule for rule, run in found)


def on_cluster(folder: Path, *profiles: str) -> list[str]:
    """Return the arguments for this cluster, as in docs/cluster.md, without the delays that only a real one needs."""
    site = {
        "default-resources": {"slurm_partition": "'all'", "constraint": "pretended"},
        "slurm-no-account": True,
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 2,
        "latency-wait": 5,
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    named = [*(f"profiles/{profile}" for profile in profiles), str(folder / "site.yaml")]
    return [word for profile in named for word in ("--profile", profile)]


def ask(slurm: dict, *command: str) -> str:
    return subprocess.run(command, env=slurm, check=True, capture_output=True, text=True).stdout


def jobs(slurm: dict) -> dict[str, dict[str, str]]:
    """Return SLURM's description of the last job of each run, and of the last job of the sweep as `sweep`."""
    found = {}
    for block in ask(slurm, "scontrol", "show", "job").split("\n\n"):
        fields = dict(re.findall(r"(\S+?)=(\S*)", block))
        if name := re.search(r"(?:paper|refined|timm)_(\S+)", fields.get("Comment", "")):
            found[name[1]] = fields
        elif fields:
            found["sweep"] = fields
    return found


def checkpoints(folder: Path, run: str) -> dict[str, int]:
    """Return the times of the checkpoints of a run, by name."""
    found = folder.glob(f"results/checkpoints/{RUNS[run]}/{run}/*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in found}


@pytest.mark.promise("slurm-only-in-profiles")
def test_only_profiles_know_of_slurm():
    sources = [PROJECT / "Snakefile", *(path for part in ("rules", "workflow_scripts", "afmp") for path in files(part))]
    assert len(sources) > 50
    words = re.compile("slurm|sbatch|srun|gres\\b", re.IGNORECASE)
    assert [path for path in sources if words.search(path.read_text())] == []


def files(part: str) -> list[Path]:
    return [path for path in (PROJECT / part).rglob("*") if path.suffix in (".smk", ".py")]


@pytest.mark.promise("cluster-gpu-request")
@pytest.mark.slurm
@pytest.mark.parametrize("profiles", [("slurm",), ("slurm", "slurm-gres")])
def test_what_jobs_ask_for(slurm, tmp_path, profiles):
    gres = "slurm-gres" in profiles
    node = ask(slurm, "sinfo", "-h", "-o", "%N").strip()
    ask(slurm, "scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")  # so that jobs wait
    study = STUDY | {"scalability": STUDY["scalability"] | {"device": "auto"}}
    with Workflow(
        tmp_path / "study", "all", *on_cluster(tmp_path, *profiles), environment=slurm, study=study
    ) as workflow:
        # Snakemake cancels only jobs that it has noted, which it does shortly after it says their number.
        workflow.wait_for(lambda: workflow.submitted().total() == len(RUNS) + len(STUDY["scalability"]["resolutions"]))
        time.sleep(2)
        asked = jobs(slurm)
    for name, limit, memory in (("dense", "02:00:00", "16000M"), ("sweep", "04:00:00", "32000M")):
        gpu = {"TresPerJob": None, "TresPerNode": "gres:gpu:1"} if gres else {"TresPerJob": "gres:gpu:1"}
        assert {key: asked[name].get(key) for key in gpu} == gpu
        assert asked[name]["CPUs/Task"] == "4"
        assert (asked[name]["TimeLimit"], asked[name]["MinMemoryNode"]) == (limit, memory)
    if not gres:
        assert not [key for key in asked["sparse_0.3"] if key.startswith("Tres")]
        assert asked["sparse_0.3"]["CPUs/Task"] == "1"
    assert {(job["Requeue"], job["Features"]) for job in asked.values()} == {("1", "pretended")}
    # When interrupted, Snakemake cancels waiting jobs, and SLURM takes a moment.
    end = time.monotonic() + 30
    while {job["JobState"] for job in jobs(slurm).values()} != {"CANCELLED"}:
        assert time.monotonic() < end, jobs(slurm)
        time.sleep(0.5)


@pytest.mark.promise("requeued-jobs")
@pytest.mark.slurm
def test_a_study_whose_jobs_are_requeued_and_cancelled(slurm, tmp_path):
    folder = tmp_path / "study"
    results = folder / "results"
    profile = [*on_cluster(tmp_path, "slurm"), *ONE_CORE]

    def training() -> set[str]:
        """Return the runs that are training and not near their end: no epoch of the last seed is done."""
        running = {run for run, job in jobs(slurm).items() if job["JobState"] == "RUNNING"}
        return {run for run in running & set(RUNS) if {name[:6] for name in checkpoints(folder, run)} == {"seed_0"}}

    # One job is requeued while it trains, as if the site preempted it. Another is cancelled and not submitted again.
    # SLURM chooses which jobs train first.
    with Workflow(folder, "all", *profile, "--retries", "0", environment=slurm) as workflow:
        requeued = workflow.wait_for(training).pop()
        number = jobs(slurm)[requeued]["JobId"]
        ask(slurm, "scontrol", "requeue", number)
        cancelled = workflow.wait_for(lambda: training() - {requeued}).pop()
        ask(slurm, "scancel", jobs(slurm)[cancelled]["JobId"])
        workflow.wait_for(lambda: jobs(slurm)[requeued]["JobState"] == "PENDING")
        ask(slurm, "scontrol", "update", f"JobId={number}", "StartTime=now")  # SLURM would wait for 2 min
        assert workflow.process.wait() == 1, workflow.said()
        sent = workflow.submitted()
    assert sent == Counter(["benchmark_resolution", "benchmark_resolution", *RUNS])
    assert jobs(slurm)[requeued]["Restarts"] == "1"
    assert continued(results / f"logs/train/{RUNS[requeued]}/{requeued}.log")
    log = (results / f"logs/slurm/rule_train/{RUNS[requeued]}_{requeued}/{number}.log").read_text()
    assert "DUE TO JOB REQUEUE" in log and log.count("SNAKEMAKE\n") == 2 * 2  # job and step, before and after
    assert {path.parts[-3] for path in results.glob("train/*/*/*/*.json")} == set(RUNS) - {cancelled}
    written = [path for name in set(RUNS.values()) for path in results.glob(f"[tb]*/{name}/**/*") if path.is_file()]
    finished = {path: path.stat().st_mtime_ns for path in written}

    # The same command with the profile's retries: a job that is lost is submitted again and resumes.
    alone = [*ONE_CORE, "--cores", "2", "--resources", "gpu=1"]
    local = Workflow(tmp_path / "local", "results/aggregate/epochs.csv", *alone)
    with local, Workflow(folder, "all", *profile, environment=slurm) as workflow:
        before = checkpoints(folder, cancelled)
        workflow.wait_for(lambda: checkpoints(folder, cancelled) != before)
        ask(slurm, "scancel", jobs(slurm)[cancelled]["JobId"])
        assert workflow.process.wait() == 0, workflow.said()
        assert workflow.submitted() == {cancelled: 2}
        assert local.process.wait() == 0, local.said()
    assert continued(results / f"logs/train/{RUNS[cancelled]}/{cancelled}.log")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for figure in (
        "comparison_results_full",
        "lambda_sparse_comparison",
        "comparison_topdown_vs_no",
        "scalability_fits",
    ):
        assert (results / f"figures/paper/{figure}.png").exists()
    assert len(read_scalability(results / "benchmark_scalability/paper/scalability.json")["points"]) == 6

    for run in RUNS:
        for seed in SEEDS:
            place = f"results/train/{RUNS[run]}/{run}/seed_{seed}"
            one, other = (read_result(tmp_path / study / place / f"results_{run}.json") for study in ("study", "local"))
            for key in ("train_loss", "train_acc", "val_acc", "sparsity_loss"):
                assert len(one["training_history"][key]) == EPOCHS
                assert one["training_history"][key] == other["training_history"][key]
            assert one["test_accuracy"] == other["test_accuracy"]
            weights, same = (load_file(tmp_path / study / place / "final.safetensors") for study in ("study", "local"))
            assert {name: value.tobytes() for name, value in weights.items()} == {
                name: value.tobytes() for name, value in same.items()
            }


def continued(log: Path) -> bool:
    """Return whether a run's log says that it resumed between its first and its last epoch."""
    after = [int(epoch) for epoch in re.findall(r"continues after epoch (\d+)", log.read_text())]
    return any(1 <= epoch < EPOCHS for epoch in after)
