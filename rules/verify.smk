# Verification: checks of a finished study, one line each. Not part of `all`.

from afmp.study.paths import CHECKS_FILE, RESULTS


# Check the files that exist. No file of the study is an input, because Snakemake would make a missing file.
rule verify:
    log:
        # None where the results can only be read: Snakemake makes the folder of a log.
        in_results([log_file("verify")]) if os.access(RESULTS, os.W_OK) else [],
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        # Not the log: Snakemake prints the log of a failed job, and so would print every line again.
        checks=in_results(CHECKS_FILE),
        dataset=DATASET_FILE,
        archives=ARCHIVES,
    script:
        "../workflow_scripts/verify.py"
