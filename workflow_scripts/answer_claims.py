"""Write the verdict on each claim about the study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from afmp.finished.answered_claims import write_answers
    from afmp.finished.results_folder import ResultsFolder
    from afmp.study.paths import CLAIMS_FILE, results_folder
    from afmp.study.study import resolve_study

    results = results_folder(snakemake.output.answered, CLAIMS_FILE)
    opened = ResultsFolder(Path(results), resolve_study(snakemake.config))
    write_answers(snakemake.params.claims, opened, dict(snakemake.output.items()))
