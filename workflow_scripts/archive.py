"""Collect the finished study into an archive."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.archive import write_archive
    from afmp.finished.unverified import refuse_unverified
    from afmp.study.paths import RESULTS

    refuse_unverified(snakemake.config, results=RESULTS, dataset=snakemake.params.dataset)
    write_archive(snakemake.config, results=RESULTS, archive=snakemake.params.archive)
