# Progress: where the study stands, in the place of Snakemake's messages about each job. They are in the log of the call.
# A logger plugin of Snakemake would have to be installed before the command line is read, and knows neither the study nor
# the jobs that had finished before.

import atexit
import logging

from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from afmp.display import Display
from afmp.log import ONLY_LOG_FILES
from afmp.training.progress import Job, StudyProgress, TrainedRun

# Messages of a job that starts or ends well. Errors, warnings and everything else stay on the terminal.
USUAL_EVENTS = (
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.GROUP_INFO,
    LogEvent.PROGRESS,
    LogEvent.SHELLCMD,
)
USUAL_TEXTS = ("Select jobs to execute...",)

LONG_RULES = {"train", "benchmark_resolution"}

DISPLAYS = []


# Tells the progress what Snakemake says about its jobs.
class JobEvents(logging.Handler):
    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def emit(self, record):
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_STARTED:
            self.progress.start(record.jobs)
        elif event == LogEvent.JOB_FINISHED:
            self.progress.finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self.progress.fail(record.jobid)


# Show the progress of the waiting jobs until `end_progress`. Snakemake's messages are as ever in a call that trains and
# measures nothing, with --verbose or --quiet, and in another workflow that uses this one.
def show_progress():
    settings, waiting = workflow.output_settings, list(workflow.dag.needrun_jobs())
    if settings.verbose or settings.quiet or not {job.rule.name for job in waiting} & LONG_RULES:
        return
    trained_before = [
        job for job in workflow.dag.jobs if job.rule.name == "train" and job not in waiting
    ]
    progress = StudyProgress(
        {job.jobid: job_of(job) for job in waiting}, trained_before=len(trained_before)
    )
    logger.addHandler(JobEvents(progress))
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(is_unusual)
    logs = ", ".join(workflow.logger_manager.get_logfile())
    logger.info(f"Messages of every job: {PLACE}/{LOGS}/, those of Snakemake: {logs}")
    # Jobs of a cluster have no terminal here.
    if workflow.local_exec:
        os.environ.update({ONLY_LOG_FILES: "1"})
    DISPLAYS.append(Display(progress, say=logger.info))


def end_progress():
    for display in DISPLAYS:
        display.stop()


# An error may end Snakemake without its hooks.
atexit.register(end_progress)


def is_unusual(record):
    return (
        getattr(record, "event", None) not in USUAL_EVENTS
        and record.getMessage() not in USUAL_TEXTS
    )


# A job of Snakemake as the progress sees it.
def job_of(job):
    run = None
    if job.rule.name == "train":
        run = TrainedRun(
            f"{job.wildcards.run} [{job.wildcards.semantics}]",
            num_seeds=len(STUDY.seeds),
            epochs=STUDY.runs[job.wildcards.run].training.epochs,
        )
    cores = workflow.resource_settings.cores or 1
    return Job(
        job.rule.name,
        " ".join([job.rule.name, *job.wildcards]),
        log=Path(job.log[0]) if job.log else None,
        run=run,
        share=min(1.0, job.threads / cores),
    )
