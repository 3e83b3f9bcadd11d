"""Write the verdict on each claim about an archived study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.answered_claims import write_answers
    from afmp.finished.opened_archive import open_archive

    write_answers(snakemake.params.claims, open_archive(snakemake.params.archive), dict(snakemake.output.items()))
