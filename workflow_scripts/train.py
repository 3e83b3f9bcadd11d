"""Train one run under one semantics, all its seeds."""

from pathlib import Path

from afmp.data.download import archive_folder
from afmp.log import log_to
from afmp.machine.device_lock import own_device
from afmp.machine.locks import lock_checkpoints
from afmp.machine.stopping import stop_on_sigterm
from afmp.study.study import RunConfig
from afmp.training.identity import Run
from afmp.training.job import train_job

folders = [Path(result).parent for result in snakemake.output.results]
own = Run(
    name=snakemake.wildcards.run,
    config=RunConfig.from_dict(snakemake.params.config),
    seed_folders=dict(zip(snakemake.params.seeds, folders, strict=True)),
    checkpoint_folder=Path(snakemake.params.checkpoint_folder),
)
with (
    log_to(snakemake.log[0]),
    lock_checkpoints(own.checkpoint_folder),
    own_device(own.config.training.device),
    stop_on_sigterm(),  # last: what waits for a lock has nothing to save
):
    train_job(
        own,
        semantics=snakemake.wildcards.semantics,
        dataset_path=Path(snakemake.input.dataset),
        study=snakemake.params.study,
        checkpoint_root=Path("results/checkpoints"),
        download_folder=archive_folder(snakemake.params.download_folder),
    )
