"""Write the hashes of all files of the finished study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.finished.study_manifest import write_study_manifest
    from afmp.study.paths import MANIFEST_FILE, results_folder
    from afmp.study.study import resolve_study

    results = results_folder(snakemake.output[0], MANIFEST_FILE)
    write_study_manifest(resolve_study(snakemake.config), results)
