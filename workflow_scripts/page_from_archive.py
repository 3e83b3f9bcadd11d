"""Write the page of an archived study that a reader opens first."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from afmp.finished.archive_figures import archive_drawings
    from afmp.finished.first_page import inputs_of, write_first_page
    from afmp.finished.opened_archive import open_archive

    opened = open_archive(snakemake.params.archive)
    inputs = inputs_of(
        snakemake.params.project,
        claims=snakemake.params.claims,
        pictures=Path(snakemake.params.folder),
        drawings=archive_drawings(opened.study),
        configuration=Path(snakemake.params.archive, "config.yaml").read_text(encoding="utf-8"),
    )
    write_first_page(snakemake.output[0], opened, inputs)
