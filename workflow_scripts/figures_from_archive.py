"""Draw the figures of an archived study again."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.archive_figures import draw_archive
    from afmp.study.paths import FIGURES_FROM_ARCHIVE, in_results

    draw_archive(snakemake.params.archive, in_results(FIGURES_FROM_ARCHIVE), finished=snakemake.params.finished)
