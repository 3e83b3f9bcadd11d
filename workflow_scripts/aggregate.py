"""Write the tables of all runs from their results."""

from afmp.analysis.study_tables import (
    differences_caption,
    differences_table,
    epochs_caption,
    epochs_table,
    summary_caption,
    summary_table,
)
from afmp.analysis.table_files import write_csv, write_html
from afmp.log import log_to
from afmp.records import read_result, write_text

with log_to(snakemake.log[0]):
    results = [read_result(path) for path in snakemake.input.results]
    studies = snakemake.params.studies
    epochs = epochs_table(results)
    write_csv(epochs, snakemake.output.epochs)
    write_text(snakemake.output.epochs_caption, epochs_caption(epochs))
    for name, table, caption in (
        ("summary", summary_table(results, studies), summary_caption),
        ("differences", differences_table(results, studies), differences_caption),
    ):
        write_csv(table, snakemake.output[name])
        write_html(table, snakemake.output[f"{name}_page"])
        write_text(snakemake.output[f"{name}_caption"], caption(table))
