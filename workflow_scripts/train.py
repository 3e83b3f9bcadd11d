"""Train one run under one semantics, all its seeds."""

from pathlib import Path

from afmp.log import log_to
from afmp.stopping import stop_on_sigterm
from afmp.study import RunConfig
from afmp.training import train_run

with log_to(snakemake.log[0]), stop_on_sigterm():
    train_run(
        RunConfig.from_dict(snakemake.params.config),
        run=snakemake.wildcards.run,
        semantics=snakemake.wildcards.semantics,
        seeds=snakemake.params.seeds,
        dataset_path=Path(snakemake.input.dataset),
        seed_folders={
            seed: Path(result).parent
            for seed, result in zip(snakemake.params.seeds, snakemake.output.results, strict=True)
        },
        checkpoint_folder=Path(snakemake.params.checkpoint_folder),
    )
