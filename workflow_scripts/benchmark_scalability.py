"""Time AFMP-Small and DeiT-Tiny over image sizes."""

from afmp.benchmark import benchmark_scalability
from afmp.log import log, log_to
from afmp.records import write_scalability

with log_to(snakemake.log[0]):
    sweep = snakemake.params.sweep
    write_scalability(
        snakemake.output.scalability,
        benchmark_scalability(
            semantics=snakemake.wildcards.semantics,
            resolutions=sweep["resolutions"],
            batch_size=sweep["batch_size"],
            num_classes=sweep["num_classes"],
            precision=sweep["precision"],
            fused_attention=sweep["attention"] == "fused",
            compile_mode=sweep["compile"],
            device=sweep["device"],
            warmup=sweep["warmup"],
            repeats=sweep["repeats"],
            progress=log.info,
        ),
    )
