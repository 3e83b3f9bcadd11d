"""Count the parameters of the compared models, and of those that the study trains."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from afmp.benchmark.parameters import count_parameters, count_trained
    from afmp.data.dataset import load_dataset
    from afmp.records import write_parameters

    dataset = load_dataset(Path(snakemake.input.dataset))
    trained = count_trained(snakemake.params.models, num_classes=dataset.num_classes)
    counts = count_parameters(num_classes=snakemake.params.num_classes, trained=trained)
    write_parameters(snakemake.output.parameters, counts)
