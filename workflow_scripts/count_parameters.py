"""Count the parameters of the compared models."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.benchmark.parameters import count_parameters
    from afmp.records import write_parameters

    write_parameters(snakemake.output.parameters, count_parameters(num_classes=snakemake.params.num_classes))
