"""Write the tables of the sweep, its ratios and fits, and the parameter counts."""

import pandas

from afmp.analysis.parameter_table import parameters_caption, parameters_table
from afmp.analysis.sweep_tables import (
    fits_caption,
    fits_table,
    ratios_caption,
    ratios_table,
    scalability_caption,
    scalability_table,
)
from afmp.analysis.table_files import write_csv, write_html
from afmp.log import log_to
from afmp.records import read_parameters, read_scalability, write_text

with log_to(snakemake.log[0]):
    sweeps = [read_scalability(path) for path in snakemake.input.scalability]
    parameters = read_parameters(snakemake.input.parameters)
    ratios, fits = (pandas.concat(map(table, sweeps)) for table in (ratios_table, fits_table))
    for name, table, caption in (
        ("scalability", pandas.concat(map(scalability_table, sweeps)), scalability_caption(sweeps)),
        ("scalability_ratios", ratios, ratios_caption(sweeps)),
        ("scalability_fits", fits, fits_caption(fits)),
        ("parameters", parameters_table(parameters), parameters_caption(parameters)),
    ):
        write_csv(table, snakemake.output[name])
        write_html(table, snakemake.output[f"{name}_page"])
        write_text(snakemake.output[f"{name}_caption"], caption)
