"""Write the hashes of all files of the finished study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.study_manifest import write_study_manifest
    from afmp.study.paths import RESULTS
    from afmp.study.study import resolve_study

    write_study_manifest(resolve_study(snakemake.config), RESULTS)
