"""Let Snakemake write its report about the finished study."""

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from afmp.log import log, log_to
from afmp.records import atomic_path

with log_to(snakemake.log[0]), tempfile.TemporaryDirectory() as scratch:
    # This run's configuration, whichever files and --config options it comes from.
    config = Path(scratch) / "config.yaml"
    config.write_text(yaml.safe_dump(snakemake.config | {"complete": True}, sort_keys=False))
    snakefile = Path(snakemake.scriptdir).parent / "Snakefile"
    report = Path(scratch) / "report.html"
    command = [sys.executable, "-m", "snakemake", "all", "--snakefile", snakefile, "--configfile", config]
    options = ["--cores", "1", "--nolock", "--report", report]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    for line in done.stderr.splitlines():
        log.info("%s", line)
    done.check_returncode()
    with atomic_path(snakemake.output[0]) as temporary:
        temporary.write_bytes(report.read_bytes())
