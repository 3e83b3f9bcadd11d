"""Put every result of every study into tables."""

from afmp.log import log_to
from afmp.records import read_result
from afmp.statistics import differences_table, epochs_table, summary_table
from afmp.tables import write_csv, write_html

with log_to(snakemake.log[0]):
    results = [read_result(path) for path in snakemake.input.results]
    studies = snakemake.params.studies
    write_csv(epochs_table(results), snakemake.output.epochs)
    for name, table in (
        ("summary", summary_table(results, studies)),
        ("differences", differences_table(results, studies)),
    ):
        write_csv(table, snakemake.output[name])
        write_html(table, snakemake.output[f"{name}_page"])
