"""Put the sweep together from its sizes."""

from afmp.benchmark.join import join_resolutions
from afmp.log import log_to
from afmp.records import read_scalability, write_scalability

with log_to(snakemake.log[0]):
    for semantics, sweep in zip(snakemake.params.semantics, snakemake.output, strict=True):
        parts = snakemake.input[semantics]
        write_scalability(sweep, join_resolutions({path: read_scalability(path) for path in parts}))
