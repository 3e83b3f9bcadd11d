"""Draw one figure of the study."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.figures.catalogue import Drawing
    from afmp.study.paths import results_folder

    drawing = Drawing(**snakemake.params.drawing)
    results = results_folder(snakemake.output.png, f"{drawing.path}.png")
    drawing.write(source=results, folder=results)
