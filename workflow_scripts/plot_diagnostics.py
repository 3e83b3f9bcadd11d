"""Draw the gates of one run, one figure per recorded epoch."""

from afmp.figures.catalogue import Drawing
from afmp.log import log_to
from afmp.study.paths import RESULTS

with log_to(snakemake.log[0]):
    for drawing in snakemake.params.drawings:
        Drawing(**drawing).write(source=RESULTS, folder=RESULTS)
