# Claims: the verdict on each claim of claims.yaml, from the results of this study or of an archived one.

from afmp.study.claims import records_of
from afmp.study.paths import CLAIMS_FILE, CLAIMS_FROM_ARCHIVE, CLAIMS_TABLE


# Answer every claim. The claims are kept beside the answers. What they name and this study does not have is answered so.
rule answer_claims:
    input:
        records=in_results(records_of(CLAIMS, STUDY)),
    output:
        **table_files(CLAIMS_TABLE, category="Claims", labels=CLAIM_LABELS),
        answered=in_results(CLAIMS_FILE),
    log:
        in_results(log_file("answer_claims")),
    benchmark:
        in_results(benchmark_file("answer_claims"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("answer_claims.py"),
        claims=CLAIMS_CONTENT,
        studies=STUDY.studies,
        captions=captions,
        # For the report, as the captions.
        verdicts=verdicts,
    script:
        "../workflow_scripts/answer_claims.py"


# Only the claims.
rule claims:
    input:
        in_results([CLAIMS_FILE, *files_of_table(CLAIMS_TABLE).values()]),


# Answer them from an archived study, with its own configuration: without dataset, GPU or training.
rule claims_from_archive:
    input:
        refuse_wrong_archive,
    output:
        **{
            name: in_results(f"{CLAIMS_FROM_ARCHIVE}/{file}")
            for name, file in files_of_table(CLAIMS_TABLE).items()
        },
        answered=in_results(f"{CLAIMS_FROM_ARCHIVE}/{CLAIMS_FILE}"),
    log:
        in_results(log_file("claims_from_archive")),
    benchmark:
        in_results(benchmark_file("claims_from_archive"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("claims_from_archive.py"),
        claims=CLAIMS_CONTENT,
        manifest=ARCHIVE_HASH,
        # Snakemake does not rerun a job for a changed parameter whose function takes `output`.
        archive=lambda wildcards, output: OLD_ARCHIVE,
    # The archive is no input, so Snakemake's own message would not name it.
    message:
        "rule claims_from_archive: answers from {params.archive}, log: {log}"
    script:
        "../workflow_scripts/claims_from_archive.py"
