"""Draw the gates of one run, one figure per recorded epoch."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.figures.catalogue import Drawing
    from afmp.study.paths import RESULTS

    for drawing in snakemake.params.drawings:
        Drawing(**drawing).write(source=RESULTS, folder=RESULTS)
