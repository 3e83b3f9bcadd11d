# Data: one plain file of uint8 images, from whatever source config.yaml names.


# Fetch (for cifar10 and cifar100), check, convert and hash the dataset.
rule prepare_data:
    input:
        code=code("prepare_data.py"),
    output:
        dataset=DATASET_FILE,
    log:
        "results/logs/prepare_data/prepare_data.log",
    benchmark:
        "results/benchmarks/prepare_data/prepare_data.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    threads: 2
    params:
        dataset=vars(STUDY.dataset),
        digest=folder_digest,
        download_folder="results/download",
    script:
        "../workflow_scripts/prepare_data.py"
