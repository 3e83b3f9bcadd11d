"""The workflow and its surroundings: an edited configuration, no network, a second Snakemake, several GPUs."""

import functools
import hashlib
import http.server
import json
import os
import signal
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_archives import python2_pickle, tar_of
from workflow_runs import EPOCHS, SMALL, append, copy_project, snakemake, start_snakemake, wait_for, write_study

from afmp.machine.locks import locked
from afmp.records import read_result
from afmp.training.checkpoint_lock import lock_checkpoints

RESULT = "results/train/paper/dense/seed_0/results_dense.json"


@pytest.fixture
def project(tmp_path):
    """A copy of the project with a small study."""
    (tmp_path / "project").mkdir()
    folder = copy_project(tmp_path / "project")
    write_study(folder, SMALL)
    return folder


def trains(folder: Path) -> bool:
    """Return whether a training has written its first checkpoint."""
    return any((folder / "results/checkpoints").rglob("*.safetensors"))


@contextmanager
def started(folder: Path, *arguments: str, environment: dict[str, str] | None = None):
    """Start Snakemake, and kill what is left of it when the block ends."""
    process = start_snakemake(folder, *arguments, environment=environment, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def ends_well(process: subprocess.Popen) -> str:
    """Wait for Snakemake to exit without an error, and return its output."""
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


# ---------------------------------------------------------------------------- no network, an edited configuration

# Every Python process runs sitecustomize.py first.
NO_NETWORK = """
import os, sys

def refuse(event, arguments):
    asks_for_a_name = event in ("socket.getaddrinfo", "socket.gethostbyname")
    if asks_for_a_name or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        with open(os.environ["ASKED"], "a") as file:
            print(event, arguments, file=file)
        raise OSError("there is no network")

sys.addaudithook(refuse)
"""

# Snakemake runs a rule with `run` in a process that reads the Snakefile again, as it does with every cluster job.
READ_AGAIN = """

rule read_again:
    input:
        in_results(result_files("paper", ["dense"], STUDY.seeds)),
    output:
        "results/read_again.json",
    run:
        found = {"main": workflow.is_main_process, "seeds": STUDY.seeds, "runs": list(STUDY.runs)}
        found["epochs"] = STUDY.runs["dense"].training.epochs
        Path(output[0]).write_text(json.dumps(found))
"""


def small_cifar() -> bytes:
    """Return an archive in the published layout of CIFAR-100: 60 images of 3 classes."""
    images = np.random.default_rng(0).integers(0, 256, (60, 3072), np.uint8)
    labels = [index % 3 for index in range(60)]
    train = {"data": images[:45], "fine_labels": labels[:45]}
    test = {"data": images[45:], "fine_labels": labels[45:]}
    members = {"train": train, "test": test, "meta": {"fine_label_names": ["ape", "bee", "cod"]}}
    return tar_of({f"cifar-100-python/{name}": python2_pickle(content) for name, content in members.items()})


@contextmanager
def served(folder: Path):
    """Serve the files of a folder on a local web server, and yield its address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory) -> Path:
    """A project of a small CIFAR-100, downloaded, then run without a network, while its configuration is overwritten.

    Its file `asked` is what was tried on the network meanwhile, `asked_first` what a download without one tried.
    """
    folder = copy_project(tmp_path_factory.mktemp("project"))
    outside = tmp_path_factory.mktemp("outside")
    content = small_cifar()
    (outside / "cifar.tar.gz").write_bytes(content)
    write_study(folder, SMALL | {"dataset": {"source": "cifar100", "path": None, "image_size": 32}})
    overlay = outside / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"seeds": [3]}))
    options = ("--configfile", str(overlay), "--config", "semantics=[paper]")
    (outside / "sitecustomize.py").write_text(NO_NETWORK)

    def offline(record: str) -> dict[str, str]:
        return {"PYTHONPATH": str(outside), "ASKED": str(folder / record)}

    with served(outside) as address:
        described = ("cifar.tar.gz", len(content), hashlib.sha256(content).hexdigest(), (f"{address}/cifar.tar.gz",))
        append(folder / "afmp/data/cifar.py", f'\n\nARCHIVES["cifar100"] = Archive(*{described}, "none")\n')
        with started(folder, "download", *options, environment=offline("asked_first")) as run:
            said, _ = run.communicate()
        assert "there is no network" in said and "place it at results/download/cifar.tar.gz" in said
        snakemake(folder, "download", *options)
    append(folder / "Snakefile", READ_AGAIN)
    targets = ("report", "results/read_again.json")
    with started(folder, *targets, *options, environment=offline("asked")) as run:
        wait_for(lambda: trains(folder), run)
        (folder / "config.yaml").write_text("studies: [not even YAML")
        overlay.write_text(yaml.safe_dump({"seeds": [4], "training": {"epochs": 1}}))
        ends_well(run)
    return folder


@pytest.mark.promise("no-network-after-download")
@pytest.mark.long
def test_after_the_download_nothing_needs_a_network(disturbed):
    assert "127.0.0.1" in (disturbed / "asked_first").read_text()
    assert not (disturbed / "asked").exists(), (disturbed / "asked").read_text()
    assert (disturbed / "results/figures/paper/scalability_results.png").exists()


@pytest.mark.promise("started-configuration")
@pytest.mark.long
def test_a_run_ends_with_the_configuration_it_started_with(disturbed):
    found = json.loads((disturbed / "results/read_again.json").read_text())
    assert found == {"main": False, "seeds": [3], "runs": ["dense"], "epochs": EPOCHS}
    result = read_result(disturbed / RESULT.replace("seed_0", "seed_3"))
    assert len(result["training_history"]["val_acc"]) == EPOCHS
    assert f"{EPOCHS} epochs" in (disturbed / "results/report/report.html").read_text()


# ---------------------------------------------------------------------------- two at once


def paused(folder: Path) -> ExitStack:
    """Make the training job of this project wait until the returned stack is closed."""
    pause = ExitStack()
    pause.enter_context(lock_checkpoints(folder / "results/checkpoints/paper/dense"))
    return pause


def waits(folder: Path) -> bool:
    """Return whether the training job has logged that it waits for this process."""
    log = folder / "results/logs/train/paper/dense.log"
    return log.exists() and f"trains into this folder; waiting for process {os.getpid()} on" in log.read_text()


@pytest.mark.promise("second-snakemake")
@pytest.mark.long
def test_a_second_snakemake_ends_with_a_sentence_and_costs_nothing(project):
    with paused(project) as pause, started(project, RESULT) as first:
        wait_for(lambda: waits(project), first)
        said = snakemake(project, RESULT, check=False)
        assert "no other Snakemake process is trying to create the same files" in said and str(project) in said
        assert "--unlock" in said and "Traceback" not in said and "rule " not in said
        assert first.poll() is None and waits(project)
        pause.close()
        ends_well(first)
    assert len(read_result(project / RESULT)["training_history"]["val_acc"]) == EPOCHS


@pytest.mark.promise("second-trainer-waits")
@pytest.mark.long
def test_with_nolock_one_of_two_trains_and_the_other_uses_its_result(project):
    with paused(project) as pause, started(project, RESULT, "--verbose") as first:
        wait_for(lambda: waits(project), first)
        with started(project, RESULT, "--nolock", "--verbose") as second:
            wait_for(lambda: waits(project), second)
            pause.close()
            said = [ends_well(process) for process in (first, second)]
    assert sum(f"epoch {EPOCHS}/{EPOCHS}" in each for each in said) == 1
    result = read_result(project / RESULT)
    assert len(result["training_history"]["val_acc"]) == EPOCHS and len(result["trained_by"]) == 1


# ---------------------------------------------------------------------------- a GPU for each job


@pytest.mark.promise("one-gpu-per-job")
@pytest.mark.long
def test_training_and_sweep_use_a_free_gpu(project, tmp_path):
    training, sweep = SMALL["training"] | {"device": "auto", "epochs": 1}, SMALL["scalability"] | {"device": "auto"}
    write_study(project, SMALL | {"training": training, "scalability": sweep})
    targets = (RESULT, "results/benchmark_scalability/paper/scalability.json")
    # GPUs that do not exist, as a scheduler might have assigned them.
    environment = {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b", "TMPDIR": str(tmp_path)}
    with locked(tmp_path / "afmp_GPU-a.lock", busy=""), started(project, *targets, environment=environment) as run:
        ends_well(run)
    for log in ("train/paper/dense.log", "benchmark_resolution/16.log"):
        assert "uses GPU GPU-b of GPU-a, GPU-b" in (project / "results/logs" / log).read_text()
