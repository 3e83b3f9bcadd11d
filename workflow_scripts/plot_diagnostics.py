"""Draw the gates of one run, one figure per recorded epoch."""

from afmp.log import log_to

with log_to(snakemake.log[0]):
    from afmp.figures.catalogue import Drawing
    from afmp.study.paths import results_folder

    drawings = [Drawing(**drawing) for drawing in snakemake.params.drawings]
    results = results_folder(snakemake.output[0], f"{drawings[0].path}.png")
    for drawing in drawings:
        drawing.write(source=results, folder=results)
