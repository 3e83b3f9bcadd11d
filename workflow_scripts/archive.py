"""Collect the finished study into an archive."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.archive import write_archive
    from afmp.finished.unverified import refuse_unverified

    results = snakemake.params.results
    refuse_unverified(snakemake.config, results=results, dataset=snakemake.params.dataset)
    write_archive(snakemake.config, results=results, archive=snakemake.params.archive)
