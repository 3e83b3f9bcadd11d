# Messages: what Snakemake says on the terminal about a job and about a misspelt target. Its own log has its own words, and
# with --verbose the terminal has them, too.

import logging

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from afmp.study.config_schema import did_you_mean

MOST_CHARACTERS = 300  # of a reason without files


# Snakemake's message about a job that starts or fails lists all its files, and again those for which it runs: 190 kB for
# `all`. Here a list has its first file and the number of the others.
class ShortMessages(logging.Formatter):
    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def format(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.ERROR and record.exception == "MissingRuleException":
            return unknown_target(record.getMessage())
        if event in (LogEvent.JOB_INFO, LogEvent.JOB_ERROR):
            short = {name: first_file(getattr(record, name)) for name in ("input", "output")}
            if event == LogEvent.JOB_INFO:
                reasons = [short_reason(reason, record) for reason in record.reason.split("; ")]
                short |= {"reason": "; ".join(reasons), "benchmark": None}
            record = logging.makeLogRecord(vars(record) | short)
        return self.whole.format(record)


def first_file(files):
    return files if len(files) < 2 else [f"{files[0]} and {len(files) - 1:,} more"]


# A reason names files in any order, or parameters before and now, of any length.
def short_reason(reason, job):
    what, _, names = reason.partition(": ")
    if names and " files" in what:
        files, of_job = sorted(names.split(", ")), job.output if "output" in what else job.input
        return f"{what}: {'all' if len(files) == len(of_job) else first_file(files)[0]}"
    return reason if len(reason) <= MOST_CHARACTERS else f"{reason[:MOST_CHARACTERS]}..."


# Snakemake's message speaks of input functions, and not of the nearest target.
def unknown_target(message):
    found = re.search(r"No rule to produce (.*) \(if you use input functions", message)
    if not found:
        return message
    targets = [rule.name for rule in workflow.rules if not rule.has_wildcards()]
    hint = did_you_mean(found[1], [*targets, *STUDY_FILES])
    return (
        f"Error: {found[1]!r} is neither a target of this workflow nor a file that it makes{hint}; "
        "`snakemake --list-target-rules` lists the targets."
    )


# Another workflow that uses this one says what it wants.
if workflow.is_main_process and not IS_MODULE and not workflow.output_settings.verbose:
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.setFormatter(ShortMessages(handler.formatter))
