"""Write the verdict on each claim about the study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from afmp.finished.answered_claims import write_answers
    from afmp.finished.results_folder import ResultsFolder
    from afmp.study.paths import RESULTS
    from afmp.study.study import resolve_study

    opened = ResultsFolder(Path(RESULTS), resolve_study(snakemake.config))
    write_answers(snakemake.params.claims, opened, dict(snakemake.output.items()))
