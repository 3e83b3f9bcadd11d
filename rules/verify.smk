# Verify: a finished study checked, a line for each check. No part of `all`.


# Check what is there, whenever asked. No file of the study is an input, or what is missing would be made and not told.
rule verify:
    input:
        code=code("verify.py", *map(figure_module, STUDY_FIGURES)),
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        # Not as `log`: Snakemake would show the lines of a study with a fault a second time.
        log="results/logs/verify/verify.log",
        dataset=DATASET_FILE,
        archives=ARCHIVES,
    script:
        "../workflow_scripts/verify.py"
