"""Let Snakemake write its report about the finished study."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from afmp.log import log, log_to
from afmp.records import atomic_path

# A line of the page that sets a variable to data in JSON.
DATA = re.compile(r'^(\s*<script id="[\w-]+">\n\s*var \w+ = )(.*)$', re.MULTILINE)


def without_tags(page: str) -> str:
    """Return the report with `<` in its data as an escape: a label such as `</script>` would end the data there."""
    return DATA.sub(lambda line: line[1] + line[2].replace("<", r"\u003c"), page)


with log_to(snakemake.log[0]), tempfile.TemporaryDirectory() as scratch:
    # This run's configuration, whichever files and --config options it comes from.
    config = Path(scratch) / "config.yaml"
    config.write_text(yaml.safe_dump(snakemake.config | {"complete": True}, sort_keys=False))
    snakefile = Path(snakemake.scriptdir).parent / "Snakefile"
    report = Path(scratch) / "report.html"
    command = [sys.executable, "-m", "snakemake", "all", "--snakefile", snakefile, "--configfile", config]
    # Without the profile, which checks a file of a person's.
    options = ["--cores", "1", "--nolock", "--workflow-profile", "none", "--report", report]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    for line in done.stderr.splitlines():
        log.info("%s", line)
    done.check_returncode()
    with atomic_path(snakemake.output[0]) as temporary:
        temporary.write_text(without_tags(report.read_text(encoding="utf-8")), encoding="utf-8")
