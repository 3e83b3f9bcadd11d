"""Measure the models of the sweep at one image size."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.benchmark.settings import sweep_from_config
    from afmp.benchmark.sweep import run_sweep
    from afmp.machine.device_lock import own_device
    from afmp.records import write_scalability

    settings = sweep_from_config(
        snakemake.params.sweep,
        resolutions=[int(snakemake.wildcards.resolution)],
        semantics=snakemake.params.semantics,
    )
    with own_device(settings.device):
        sweeps = run_sweep(settings, part_of=snakemake.params.part_of, measured=snakemake.params.measured)
    for path, sweep in zip(snakemake.output, sweeps.values(), strict=True):
        write_scalability(path, sweep)
