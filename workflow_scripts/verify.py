"""Check the finished study, a line for each check on the standard output."""

from afmp.log import log_to
from afmp.verification import verify

with log_to(snakemake.log[0]):
    verify(
        snakemake.config,
        results="results",
        dataset=snakemake.params.dataset,
        archives=snakemake.params.archives,
    )
