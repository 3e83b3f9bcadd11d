# Verification: the manifest of a finished study, and the checks of it, one line each. The checks are not part of `all`.

from afmp.study.paths import CHECKS_FILE


# Write the hashes of all files of the finished study. What changes afterwards is not what the study made.
rule manifest:
    input:
        files=[
            file
            for file in STUDY_FILES
            if file != in_results(MANIFEST_FILE) and not file.endswith(".safetensors")
        ],
        # Their hashes are in the other files, and they may be too large for Snakemake to compare.
        tensors=[ancient(file) for file in STUDY_FILES if file.endswith(".safetensors")],
    output:
        in_results(MANIFEST_FILE),
    log:
        in_results(log_file("manifest")),
    benchmark:
        in_results(benchmark_file("manifest"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("manifest.py"),
    script:
        "../workflow_scripts/manifest.py"


# Check the files that exist. With `--config deep=true` also evaluate the weights again, and train `spot=N` seeds again. No file
# of the study is an input, because Snakemake would make a missing file.
rule verify:
    input:
        needs_a_folder,
    log:
        # None where the results can only be read: Snakemake makes the folder of a log.
        in_results([log_file("verify")]) if os.access(UNDECLARED, os.W_OK) else [],
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        # Not the log: Snakemake prints the log of a failed job, and so would print every line again.
        checks=on_disk(CHECKS_FILE),
        results=lambda wildcards: UNDECLARED,
        dataset=lambda wildcards: on_disk(DATASET_NAME),
        archives=ARCHIVES,
        depth=asdict(DEPTH),
    script:
        "../workflow_scripts/verify.py"
