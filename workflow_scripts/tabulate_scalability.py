"""Write the tables of the sweep, its ratios and fits, and the parameter counts."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.analysis.table_files import write_tables
    from afmp.analysis.tables import sweep_tables
    from afmp.records import read_parameters, read_scalability

    sweeps = [read_scalability(path) for path in snakemake.input.scalability]
    write_tables(sweep_tables(sweeps, read_parameters(snakemake.input.parameters)), dict(snakemake.output.items()))
