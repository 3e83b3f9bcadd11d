"""Train one run under one semantics, all its seeds."""

from pathlib import Path

from afmp.datasets import repair_dataset
from afmp.log import log_to
from afmp.stopping import stop_on_sigterm
from afmp.study import RunConfig
from afmp.training import train_run

with log_to(snakemake.log[0]), stop_on_sigterm():
    config, dataset = RunConfig.from_dict(snakemake.params.config), Path(snakemake.input.dataset)
    repair_dataset(dataset, vars(config.dataset), download_folder=Path(snakemake.params.download_folder))
    train_run(
        config,
        run=snakemake.wildcards.run,
        semantics=snakemake.wildcards.semantics,
        seeds=snakemake.params.seeds,
        dataset_path=dataset,
        seed_folders={
            seed: Path(result).parent
            for seed, result in zip(snakemake.params.seeds, snakemake.output.results, strict=True)
        },
        checkpoint_folder=Path(snakemake.params.checkpoint_folder),
    )
