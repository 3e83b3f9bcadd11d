"""Draw what the gates of one run did on a real test image, a figure an epoch."""

from pathlib import Path

from afmp.data.dataset import load_dataset
from afmp.figures import diagnostics
from afmp.figures.parts.style import save_figure
from afmp.log import log_to
from afmp.records import read_diagnostics, write_text

with log_to(snakemake.log[0]):
    record = read_diagnostics(snakemake.input.diagnostics)
    image = load_dataset(snakemake.input.dataset).test_images[record["image_index"]].numpy()
    folder = Path(snakemake.output.folder)
    for epoch in map(int, record["epochs"]):
        name = folder / f"epoch_{epoch:04d}"
        save_figure(diagnostics.draw(record, epoch, image), png=name.with_suffix(".png"))
        write_text(name.with_suffix(".rst"), diagnostics.caption(record, epoch))
