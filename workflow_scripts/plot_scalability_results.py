"""Draw time and memory over image sizes."""

from afmp.figures import scalability_results
from afmp.figures.style import save_figure
from afmp.log import log_to
from afmp.records import read_scalability, write_text

with log_to(snakemake.log[0]):
    scalability = read_scalability(snakemake.input.scalability)
    save_figure(
        scalability_results.draw(scalability),
        png=snakemake.output.png,
        pdf=snakemake.output.pdf,
    )
    write_text(snakemake.output.caption, scalability_results.caption(scalability))
