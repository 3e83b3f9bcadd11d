"""Write the first page of the finished study, and let Snakemake write its report."""

from afmp.log import log, log_to

with log_to(snakemake.log[0]):
    import json
    import os
    import re
    import subprocess
    import sys
    from pathlib import Path

    import yaml

    from afmp.finished.first_page import write_page_of_results
    from afmp.finished.unverified import refuse_unverified
    from afmp.machine.scratch import scratch_folder
    from afmp.records import write_text

    # A line of Snakemake's page that sets a variable to data in JSON.
    DATA = re.compile(r'^(\s*<script id="[\w-]+">\n\s*var (\w+) = )(.*?)(;?)$', re.MULTILINE)

    # The workflow with its files behind a prefix.
    MODULE = """
module afmp:
    snakefile: {snakefile!r}
    config: config
    prefix: {prefix!r}
use rule * from afmp
"""

    def as_text(page: str) -> str:
        """Return Snakemake's page with `<` in its data as an escape: a label `</script>` would end the data there.

        Parameters of jobs are left out: they contain whole studies, and the page shows them under each caption.
        """

        def line(found: re.Match) -> str:
            start, name, data, end = found.groups()
            if name == "results":
                results = json.loads(data)
                for result in results.values():
                    result["job_properties"]["params"] = ""
                data = json.dumps(results)
            return start + data.replace("<", r"\u003c") + end

        return DATA.sub(line, page)

    def snakemake_page(*, project: str, prefix: str) -> str:
        """Return the report of this call's configuration, whichever files and --config options it comes from."""
        # The study alone decides what it shows, not the profile or another setting of the person who asks for it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SNAKEMAKE_")}
        with scratch_folder() as scratch:
            config, report = scratch / "config.yaml", scratch / "report.html"
            config.write_text(yaml.safe_dump(snakemake.config | {"complete": True}, sort_keys=False), encoding="utf-8")
            # With metadata the page opens on its text, not on the graph of rules. Snakemake 9 shows only numbers well.
            metadata = scratch / "metadata.yaml"
            metadata.write_text(yaml.safe_dump({"Random seeds per run": len(snakemake.config["seeds"])}))
            snakefile = Path(project, "Snakefile")
            if prefix:
                module, snakefile = MODULE.format(snakefile=str(snakefile), prefix=prefix), scratch / "Snakefile"
                snakefile.write_text(module, encoding="utf-8")
            command = [sys.executable, "-m", "snakemake", "all", "--snakefile", snakefile, "--configfile", config]
            options = ["--cores", "1", "--nolock", "--profile", "none", "--workflow-profile", "none"]
            options += ["--report", report, "--report-metadata", metadata]
            options += ["--report-stylesheet", Path(project, "report/report.css")]
            environment["TMPDIR"] = str(scratch)  # if it is killed, it leaves nothing elsewhere
            done = subprocess.run(
                [*command, *options], capture_output=True, encoding="utf-8", errors="replace", env=environment
            )
            for line in done.stderr.splitlines():
                log.info("%s", line)
            done.check_returncode()
            return report.read_text(encoding="utf-8")

    project, prefix, results = (snakemake.params.places[name] for name in ("project", "prefix", "results"))
    refuse_unverified(snakemake.config, results=results, dataset=snakemake.params.dataset)
    write_page_of_results(snakemake.output.page, snakemake.config, results=results, project=project)
    write_text(snakemake.output.report, as_text(snakemake_page(project=project, prefix=prefix)))
