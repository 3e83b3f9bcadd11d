"""Train one run under one semantics, all its seeds."""

from pathlib import Path

from afmp.device_lock import own_device
from afmp.locks import lock_checkpoints
from afmp.log import log_to
from afmp.study import RunConfig
from afmp.training import train_run

config = RunConfig.from_dict(snakemake.params.config)
checkpoint_folder = Path(snakemake.params.checkpoint_folder)

with log_to(snakemake.log[0]), lock_checkpoints(checkpoint_folder), own_device(config.training.device):
    train_run(
        config,
        run=snakemake.wildcards.run,
        semantics=snakemake.wildcards.semantics,
        seeds=snakemake.params.seeds,
        dataset_path=Path(snakemake.input.dataset),
        seed_folders={
            seed: Path(result).parent
            for seed, result in zip(snakemake.params.seeds, snakemake.output.results, strict=True)
        },
        checkpoint_folder=checkpoint_folder,
    )
