"""Write the tables of all runs from their results."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.analysis.table_files import write_tables
    from afmp.analysis.tables import run_tables
    from afmp.records import read_result

    results = [read_result(path) for path in snakemake.input.results]
    write_tables(run_tables(results, snakemake.params.studies), dict(snakemake.output.items()))
