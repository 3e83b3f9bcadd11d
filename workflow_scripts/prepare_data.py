"""Prepare the dataset of config.yaml as one file."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from afmp.data.download import archive_folder
    from afmp.data.preparation import prepare_dataset
    from afmp.records import write_text

    content_hash = prepare_dataset(
        snakemake.params.dataset,
        Path(snakemake.output.dataset),
        download_folder=archive_folder(snakemake.params.download_folder),
    )
    write_text(snakemake.output.hash, f"{content_hash}\n")
