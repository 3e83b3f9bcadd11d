"""Train one run under one semantics, with all its seeds."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from afmp.data.download import archive_folder
    from afmp.machine.device_lock import own_device
    from afmp.machine.stopping import stop_on_sigterm
    from afmp.study.run_config import RunConfig
    from afmp.training.checkpoint_lock import lock_checkpoints
    from afmp.training.job import train_job
    from afmp.training.run import Run
    from afmp.training.tensorboard import record_training

    folders = [Path(result).parent for result in snakemake.output.results]
    run = Run(
        name=snakemake.wildcards.run,
        semantics=snakemake.wildcards.semantics,
        config=RunConfig.from_dict(snakemake.params.study[snakemake.wildcards.run]),
        seed_folders=dict(zip(snakemake.params.seeds, folders, strict=True)),
        checkpoint_folder=Path(snakemake.params.checkpoint_folder),
    )
    with (
        lock_checkpoints(run.checkpoint_folder),
        own_device(run.config.training.device),
        stop_on_sigterm(),  # after the locks: a process that waits for one has nothing to save
        record_training(run, snakemake.params.tensorboard and Path(snakemake.params.tensorboard)),
    ):
        train_job(
            run,
            dataset_path=Path(snakemake.input.dataset),
            study=snakemake.params.study,
            download_folder=archive_folder(snakemake.params.download_folder),
            set_aside=Path(snakemake.params.set_aside),
        )
