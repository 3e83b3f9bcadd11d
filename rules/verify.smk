# Verification: a finished study is checked, with one line per check. Not part of `all`.

from afmp.study.paths import CHECKS_FILE


# Check what is there. No file of the study is an input: Snakemake would make a missing file instead of reporting it.
rule verify:
    input:
        code=code("verify.py"),
    log:
        in_results(log_file("verify")),
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        # A file of its own, because Snakemake prints the log of a failed job, and so would print every line again.
        checks=in_results(CHECKS_FILE),
        dataset=DATASET_FILE,
        archives=ARCHIVES,
    script:
        "../workflow_scripts/verify.py"
