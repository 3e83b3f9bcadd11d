"""Put the sweep and the parameter counts into tables."""

import pandas

from afmp.log import log_to
from afmp.records import read_parameters, read_scalability
from afmp.tables import parameters_table, scalability_table, write_csv, write_html

with log_to(snakemake.log[0]):
    sweeps = pandas.concat(scalability_table(read_scalability(path)) for path in snakemake.input.scalability)
    for name, table in (
        ("scalability", sweeps),
        ("parameters", parameters_table(read_parameters(snakemake.input.parameters))),
    ):
        write_csv(table, snakemake.output[name])
        write_html(table, snakemake.output[f"{name}_page"])
