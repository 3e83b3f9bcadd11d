"""Write the summary and the differences of an archived study, also for publication."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.archived_tables import write_archived_tables
    from afmp.finished.opened_archive import open_archive

    write_archived_tables(open_archive(snakemake.params.archive), dict(snakemake.output.items()))
