"""Write the page of a finished study that a reader opens first."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    import yaml

    from afmp.finished.first_page import inputs_of, write_first_page
    from afmp.finished.results_folder import ResultsFolder
    from afmp.finished.study_files import study_drawings
    from afmp.finished.unverified import refuse_unverified
    from afmp.study.config_file import read_config
    from afmp.study.paths import CLAIMS_FILE
    from afmp.study.study import resolve_study

    results, study = Path(snakemake.params.places["results"]), resolve_study(snakemake.config)
    refuse_unverified(snakemake.config, results=results, dataset=snakemake.params.dataset)
    inputs = inputs_of(
        snakemake.params.places["project"],
        claims=read_config(results / CLAIMS_FILE),
        pictures=results,
        drawings=study_drawings(study),
        configuration=yaml.safe_dump(snakemake.config, sort_keys=False, allow_unicode=True),
    )
    write_first_page(snakemake.output[0], ResultsFolder(results, study), inputs)
