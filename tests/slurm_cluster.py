"""A real SLURM for the tests: controller, node and munge on this machine, with all that they keep in one folder."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")

# The node says it has a GPU, so many cores and as much memory as the profiles ask for, whatever the machine has. Only a
# job that asks for it is requeued.
SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobRequeue=0
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=128000 Gres=gpu:1 Feature=pretended
PartitionName=all Nodes={host} Default=YES
"""


@contextmanager
def slurm_cluster(folder: Path, *, cpus: int):
    """The environment in which the commands of SLURM reach a cluster of one idle node; it ends with the context.

    folder: empty, its path short, as a socket will stand in it.

    Raises RuntimeError, with the end of each daemon's log, if the node is not there, or jobs not gone, within a minute.
    """
    missing = [daemon for daemon in DAEMONS if find_daemon(daemon) is None]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} not found; install Debian's packages slurm-wlm and munge.")
    for part in ("state", "spool"):
        (folder / part).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    controller_port, node_port = free_ports(2)
    options = {"folder": folder, "host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "cpus": cpus}
    conf = SLURM_CONF.format(**options, controller_port=controller_port, node_port=node_port)
    (folder / "slurm.conf").write_text(conf)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    # The executor hides SLURM_CONF from the srun of a job, which would then look for the machine's own cluster.
    (folder / "bin").mkdir()
    (folder / "bin/srun").write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    (folder / "bin/srun").chmod(0o755)
    environment["PATH"] = f"{folder}/bin:{environment['PATH']}"
    # By force, as the folder is closed to others.
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    with ExitStack() as daemons:
        for command in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
            ["slurmctld", "-D", "-i"],
            ["slurmd", "-D"],
        ):
            daemons.enter_context(daemon(command, folder, environment))
        wait_until_said("idle", ["sinfo", "-h", "-o", "%T"], folder, environment)
        try:
            yield environment
        finally:
            # What still runs, as after a failed test, would outlive the daemons.
            subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=environment)
            wait_until_said("", ["squeue", "-h"], folder, environment)


def find_daemon(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def daemon(command: list[str], folder: Path, environment: dict):
    """A process in the foreground, its output in <folder>/<name>.out, ended with the context."""
    name, *options = command
    with (folder / f"{name}.out").open("w") as output:
        process = subprocess.Popen(
            [find_daemon(name), *options], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until_said(wanted: str, command: list[str], folder: Path, environment: dict) -> None:
    end = time.monotonic() + 60
    said = None
    while said != wanted:
        if time.monotonic() > end:
            logs = "\n".join(f"{name}: {(folder / f'{name}.out').read_text()[-2000:]}" for name in DAEMONS)
            raise RuntimeError(f"{command[0]} said {said!r} and not {wanted!r} for 60 s.\n{logs}")
        time.sleep(0.5)
        found = subprocess.run(command, env=environment, capture_output=True, text=True)
        said = found.stdout.strip() if found.returncode == 0 else found.stderr.strip()
