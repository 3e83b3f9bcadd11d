"""Check the finished study: one line per check, on the standard output and in a file next to the log."""

from afmp.log import log_to

with log_to(snakemake.log[0] if snakemake.log else None):  # none where the results can only be read
    from contextlib import suppress

    from afmp.errors import AfmpError
    from afmp.finished.depth import Depth
    from afmp.finished.verify import verify
    from afmp.records import write_text

    said = []

    def say(line: str) -> None:
        print(line, flush=True)
        said.append(line)

    try:
        verify(
            snakemake.config,
            results=snakemake.params.results,
            dataset=snakemake.params.dataset,
            archives=snakemake.params.archives,
            depth=Depth(**snakemake.params.depth),
            say=say,
        )
    finally:
        with suppress(AfmpError):  # a study that can only be read
            write_text(snakemake.params.checks, "\n".join(said) + "\n")
