"""Draw one figure of the study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.figures.catalogue import Drawing
    from afmp.study.paths import RESULTS

    Drawing(**snakemake.params.drawing).write(source=RESULTS, folder=RESULTS)
