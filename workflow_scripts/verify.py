"""Check the finished study, a line for each check on the terminal and in the log."""

from afmp.log import log, log_to
from afmp.verification import verify

with log_to(snakemake.params.log):
    verify(
        snakemake.config,
        results="results",
        dataset=snakemake.params.dataset,
        archives=snakemake.params.archives,
        say=log.info,
    )
