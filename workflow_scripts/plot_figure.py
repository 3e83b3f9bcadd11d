"""Draw one figure of the study."""

from afmp.figures.catalogue import Drawing
from afmp.log import log_to
from afmp.study.paths import RESULTS

with log_to(snakemake.log[0]):
    Drawing(**snakemake.params.drawing).write(source=RESULTS, folder=RESULTS)
