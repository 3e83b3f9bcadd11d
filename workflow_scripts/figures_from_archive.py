"""Draw the figures of an archived study again."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.archive_figures import draw_archive

    draw_archive(snakemake.params.archive, snakemake.params.folder, finished=snakemake.params.finished)
