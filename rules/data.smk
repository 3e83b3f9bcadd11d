# Data: one plain file of uint8 images, from the source that config.yaml names.

from afmp.study.paths import DOWNLOAD_FOLDER


# Fetch (for cifar10 and cifar100), check, convert and hash the dataset.
rule prepare_data:
    output:
        dataset=DATASET_FILE,
        hash=DATASET_HASH,
    log:
        in_results(log_file("prepare_data")),
    benchmark:
        in_results(benchmark_file("prepare_data"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    threads: 2
    params:
        code=code("prepare_data.py"),
        images=images,
        # With the folder of the images. Snakemake does not rerun a job for a changed parameter whose function takes `output`.
        dataset=lambda wildcards, output: vars(STUDY.dataset),
        download_folder=on_disk(DOWNLOAD_FOLDER),
    script:
        "../workflow_scripts/prepare_data.py"
