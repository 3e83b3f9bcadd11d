# Verify: a finished study checked, a line for each check. No part of `all`.


# Check what is there, whenever asked. No file of the study is an input, or what is missing would be made and not told.
rule verify:
    input:
        code=code("verify.py"),
    log:
        "results/logs/verify/verify.log",
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        # Beside the log, which Snakemake shows where a check failed: it would show all of them a second time.
        checks="results/logs/verify/checks.txt",
        dataset=DATASET_FILE,
        archives=ARCHIVES,
    script:
        "../workflow_scripts/verify.py"
