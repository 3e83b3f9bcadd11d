"""Check the finished study: one line per check, on the standard output and in a file next to the log."""

from afmp.log import log_to

with log_to(snakemake.log[0] if snakemake.log else None):  # none where the results can only be read
    from contextlib import ExitStack, suppress
    from pathlib import Path

    from afmp.finished.verify import verify
    from afmp.study.paths import RESULTS

    with ExitStack() as opened:
        checks = None
        with suppress(OSError):  # a study that can only be read
            checks = opened.enter_context(Path(snakemake.params.checks).open("w", encoding="utf-8"))

        def say(line: str) -> None:
            print(line, flush=True)
            if checks:
                print(line, file=checks)

        verify(
            snakemake.config,
            results=RESULTS,
            dataset=snakemake.params.dataset,
            archives=snakemake.params.archives,
            say=say,
        )
