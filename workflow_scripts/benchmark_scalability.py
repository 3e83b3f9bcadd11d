"""Join the image sizes of each sweep into one file."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.benchmark.join import join_resolutions
    from afmp.records import read_scalability, write_scalability

    for semantics, path in zip(snakemake.params.semantics, snakemake.output, strict=True):
        parts = {part: read_scalability(part) for part in snakemake.input[semantics]}
        write_scalability(path, join_resolutions(parts))
