"""Draw the figure of one study under one semantics."""

from importlib import import_module

from afmp.figures.catalogue import figure_module
from afmp.figures.parts.style import save_figure
from afmp.log import log_to
from afmp.records import read_result, write_text

with log_to(snakemake.log[0]):
    study = snakemake.params.study
    figure = import_module(figure_module(study["figure"]))
    results = [read_result(path) for path in snakemake.input.results]
    save_figure(figure.draw(study, results), png=snakemake.output.png, pdf=snakemake.output.pdf)
    write_text(snakemake.output.caption, figure.caption(study, results))
