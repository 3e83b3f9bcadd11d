"""Time AFMP-Small and DeiT-Tiny at one image size."""

from afmp.benchmark.sweep import benchmark_scalability, reduced_batch_sizes
from afmp.log import log, log_to
from afmp.machine.device_lock import own_device
from afmp.records import write_scalability

sweep = snakemake.params.sweep
resolutions = [int(snakemake.wildcards.resolution)]

with log_to(snakemake.log[0]), own_device(sweep["device"]):
    found = benchmark_scalability(
        semantics=snakemake.params.semantics,
        resolutions=resolutions,
        batch_sizes=reduced_batch_sizes(resolutions, sweep["batch_size"]),
        num_classes=sweep["num_classes"],
        precisions=sweep["precision"],
        modes=sweep["mode"],
        executions=sweep["execution"],
        attentions=sweep["attention"],
        device=sweep["device"],
        warmup=sweep["warmup"],
        repeats=sweep["repeats"],
        seconds=sweep["seconds"],
        skip_impossible=True,
        part_of=snakemake.params.part_of,
        progress=log.info,
        unfinished=snakemake.params.unfinished,
    )
    for path, scalability in zip(snakemake.output, found.values(), strict=True):
        write_scalability(path, scalability)
