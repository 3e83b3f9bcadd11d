"""Check the finished study: one line per check, on the standard output and in a file next to the log."""

from pathlib import Path

from afmp.finished.verify import verify
from afmp.log import log_to
from afmp.study.paths import RESULTS

with log_to(snakemake.log[0]), Path(snakemake.params.checks).open("w", encoding="utf-8") as checks:

    def say(line: str) -> None:
        print(line, flush=True)
        print(line, file=checks)

    verify(
        snakemake.config,
        results=RESULTS,
        dataset=snakemake.params.dataset,
        archives=snakemake.params.archives,
        say=say,
    )
