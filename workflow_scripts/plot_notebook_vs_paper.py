"""Draw the same runs under both meanings of AFMP."""

from afmp.figures import notebook_vs_paper
from afmp.figures.parts.style import save_figure
from afmp.log import log_to
from afmp.records import read_result, write_text

with log_to(snakemake.log[0]):
    paper = [read_result(path) for path in snakemake.input.paper]
    notebook = [read_result(path) for path in snakemake.input.notebook]
    studies = snakemake.params.studies
    save_figure(
        notebook_vs_paper.draw(studies, paper, notebook),
        png=snakemake.output.png,
        pdf=snakemake.output.pdf,
    )
    write_text(snakemake.output.caption, notebook_vs_paper.caption(studies, paper, notebook))
