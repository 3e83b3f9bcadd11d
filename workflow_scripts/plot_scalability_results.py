"""Draw time and memory over image sizes."""

from afmp.figures import scalability_results
from afmp.figures.parts.style import save_figure
from afmp.log import log_to
from afmp.records import read_scalability, write_text

with log_to(snakemake.log[0]):
    sweeps = [read_scalability(path) for path in [snakemake.input.scalability, *snakemake.input.others]]
    save_figure(
        scalability_results.draw(*sweeps),
        png=snakemake.output.png,
        pdf=snakemake.output.pdf,
    )
    write_text(snakemake.output.caption, scalability_results.caption(*sweeps))
