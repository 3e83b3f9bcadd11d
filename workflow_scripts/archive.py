"""Collect the finished study into an archive."""

from afmp.finished.archive import write_archive
from afmp.log import log_to
from afmp.study.paths import RESULTS

with log_to(snakemake.log[0]):
    write_archive(snakemake.config, results=RESULTS, archive=snakemake.params.archive)
