"""Let Snakemake write its report about the finished study."""

from afmp.log import log, log_to

with log_to(snakemake.log[0]):
    import os
    import re
    import subprocess
    import sys
    from pathlib import Path

    import yaml

    from afmp.finished.unverified import refuse_unverified
    from afmp.machine.scratch import scratch_folder
    from afmp.records import write_text

    # A line of the page that sets a variable to data in JSON.
    DATA = re.compile(r'^(\s*<script id="[\w-]+">\n\s*var \w+ = )(.*)$', re.MULTILINE)

    # The workflow with its files behind a prefix.
    MODULE = """
module afmp:
    snakefile: {snakefile!r}
    config: config
    prefix: {prefix!r}
use rule * from afmp
"""

    def without_tags(page: str) -> str:
        """Return the report with `<` in its data as an escape: a label such as `</script>` would end the data there."""
        return DATA.sub(lambda line: line[1] + line[2].replace("<", r"\u003c"), page)

    refuse_unverified(snakemake.config, results=snakemake.params.places["results"], dataset=snakemake.params.dataset)
    # The study alone decides what the report shows, not the profile or another setting of the person who asks for it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE_")}
    with scratch_folder() as scratch:
        # This run's configuration, whichever files and --config options it comes from.
        config, report = scratch / "config.yaml", scratch / "report.html"
        config.write_text(yaml.safe_dump(snakemake.config | {"complete": True}, sort_keys=False), encoding="utf-8")
        snakefile = Path(snakemake.params.places["project"], "Snakefile")
        if prefix := snakemake.params.places["prefix"]:
            module, snakefile = MODULE.format(snakefile=str(snakefile), prefix=prefix), scratch / "Snakefile"
            snakefile.write_text(module, encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "all", "--snakefile", snakefile, "--configfile", config]
        options = ["--cores", "1", "--nolock", "--profile", "none", "--workflow-profile", "none", "--report", report]
        environment["TMPDIR"] = str(scratch)  # if it is killed, it leaves nothing elsewhere
        done = subprocess.run(
            [*command, *options], capture_output=True, encoding="utf-8", errors="replace", env=environment
        )
        for line in done.stderr.splitlines():
            log.info("%s", line)
        done.check_returncode()
        write_text(snakemake.output[0], without_tags(report.read_text(encoding="utf-8")))
