"""Train one run under one semantics, all its seeds."""

from pathlib import Path

from afmp.log import log_to
from afmp.run_identity import Run
from afmp.study import RunConfig
from afmp.train_job import train_job

with log_to(snakemake.log[0]):
    folders = [Path(result).parent for result in snakemake.output.results]
    train_job(
        Run(
            name=snakemake.wildcards.run,
            config=RunConfig.from_dict(snakemake.params.config),
            seed_folders=dict(zip(snakemake.params.seeds, folders, strict=True)),
            checkpoint_folder=Path(snakemake.params.checkpoint_folder),
        ),
        semantics=snakemake.wildcards.semantics,
        dataset_path=Path(snakemake.input.dataset),
        study=snakemake.params.study,
        checkpoint_root=Path("results/checkpoints"),
    )
