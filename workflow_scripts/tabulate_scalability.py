"""Put the sweep and the parameter counts into tables."""

import pandas

from afmp.log import log_to
from afmp.records import read_parameters, read_scalability, write_text
from afmp.tables import (
    parameters_caption,
    parameters_table,
    scalability_caption,
    scalability_table,
    write_csv,
    write_html,
)

with log_to(snakemake.log[0]):
    sweeps = [read_scalability(path) for path in snakemake.input.scalability]
    parameters = read_parameters(snakemake.input.parameters)
    for name, table, caption in (
        ("scalability", pandas.concat(map(scalability_table, sweeps)), scalability_caption(sweeps)),
        ("parameters", parameters_table(parameters), parameters_caption(parameters)),
    ):
        write_csv(table, snakemake.output[name])
        write_html(table, snakemake.output[f"{name}_page"])
        write_text(snakemake.output[f"{name}_caption"], caption)
