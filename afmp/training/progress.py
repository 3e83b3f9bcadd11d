"""Progress of a study: which jobs have finished, and which epoch each training has reached. Does not import PyTorch.

Jobs are processes, perhaps on other machines. So what they do is read from the logs that they write.
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

# A line of a training's log, as the loop and `start_seed` write them, after the time.
SEED = r"\S+ \S+  (?P<run>.+ \[\w+\]) seed (?P<seed>\d+): "
EPOCH = re.compile(SEED + r"epoch (?P<epoch>\d+)/\d+ .* val (?P<accuracy>[\d.]+) %")
RESUMED = re.compile(SEED + r"continues after epoch (?P<epoch>\d+) of")

FIRST_GUESS_S = 5.0  # of a job that trains nothing, until one of its rule has finished


@dataclass
class TrainedRun:
    """A run under one semantics that this call trains, and the last epoch of each of its random seeds.

    name: as in the log, `dense [paper]`. number: its place in the order of starting, 0 before it starts.
    """

    name: str
    num_seeds: int
    epochs: int
    number: int = 0
    finished: bool = False
    failed: bool = False
    latest: int | None = None  # the seed of the last line
    reached: dict[int, int] = field(default_factory=dict)
    accuracies: dict[int, float] = field(default_factory=dict)

    @property
    def epochs_left(self) -> int:
        """Epochs that are still to train, of all seeds."""
        return 0 if self.finished or self.failed else self.num_seeds * self.epochs - sum(self.reached.values())

    def __str__(self) -> str:
        if self.latest is None:
            return f"{self.name} starts"
        # On a GPU all seeds train together.
        epoch = self.reached[self.latest]
        together = [seed for seed in self.accuracies if self.reached[seed] == epoch]
        who = f"seed {self.latest}" if len(together) == 1 else f"{len(together)} seeds"
        accuracy = mean(self.accuracies[seed] for seed in together)
        return f"{self.name} {who}, epoch {epoch}/{self.epochs}, val {accuracy:.2f} %"


@dataclass
class Job:
    """A job of the workflow: its rule, its name, its log, and the run that it trains, if any.

    share: the part of the machine that it takes, at most 1. started, seconds: by a clock; None before it starts and
    before it has finished.
    """

    rule: str
    name: str
    log: Path | None = None
    run: TrainedRun | None = None
    share: float = 1.0
    started: float | None = None
    seconds: float | None = None
    failed: bool = False

    @property
    def is_running(self) -> bool:
        """Whether the job has started, and neither finished nor failed. A cluster may not have begun it."""
        return self.started is not None and self.seconds is None and not self.failed


class _Lines:
    """The lines of a log that a job has written since it was last read. Those of an earlier job do not count."""

    def __init__(self, path: Path):
        self._path = path
        self._before = self._stamp()
        self._position = 0
        self.last = ""

    @property
    def is_new(self) -> bool:
        """Whether the job has emptied the log, as it does first of all, or written to it."""
        if self._before is not None and self._stamp() not in (None, self._before):
            self._before = None
        return self._before is None

    def read(self) -> list[str]:
        """Return the new lines. A log that cannot be read has none."""
        if not self.is_new:
            return []
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._position:
                    self._position = 0  # the job was started again
                file.seek(self._position)
                content = file.read()
        except OSError:
            return []
        content = content[: content.rfind(b"\n") + 1]
        self._position += len(content)
        lines = content.decode(errors="replace").splitlines()
        self.last = lines[-1] if lines else self.last
        return lines

    def _stamp(self) -> tuple[int, int] | tuple[()] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return ()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


class StudyProgress:
    """Where the jobs of one call stand.

    jobs: by their number. trained_before: runs of the study that were finished before. clock: returns seconds.
    """

    def __init__(self, jobs: dict[int, Job], *, trained_before: int = 0, clock: Callable[[], float] = time.monotonic):
        self._jobs, self._clock = jobs, clock
        self._runs = {job.run.name: job.run for job in jobs.values() if job.run}
        self._logs = {job: _Lines(one.log) for job, one in jobs.items() if one.log}
        self._trained_before, self._num_started = trained_before, trained_before
        self._num_epochs, self._training_s, self._last_read = 0, 0.0, clock()

    def start(self, numbers: Iterable[int]) -> None:
        """Note that these jobs start, perhaps once more."""
        for number in numbers:
            if job := self._jobs.get(number):
                job.started, job.seconds, job.failed = self._clock(), None, False
                if job.run:
                    job.run.failed = False
                    self._give_number(job.run)

    def finish(self, number: int) -> None:
        """Note that a job has finished."""
        if job := self._jobs.get(number):
            now = self._clock()
            self._read_log(number)
            job.seconds = now - (now if job.started is None else job.started)
            if job.run:
                job.run.finished = True

    def fail(self, number: int) -> None:
        """Note that a job has failed."""
        if job := self._jobs.get(number):
            job.failed = True
            if job.run:
                job.run.failed = True

    def read(self) -> None:
        """Read what the running jobs have written to their logs since the last time."""
        now = self._clock()
        if any(job.run and self._logs[number].is_new for number, job in self._running()):
            self._training_s += now - self._last_read
        self._last_read = now
        for number, _ in self._running():
            self._read_log(number)

    @property
    def num_done(self) -> int:
        """Number of jobs that have finished or failed."""
        return sum(job.seconds is not None or job.failed for job in self._jobs.values())

    def numbers(self) -> str:
        """Return the numbers of runs trained, jobs done, and jobs failed if there are any."""
        failed = sum(job.failed for job in self._jobs.values())
        parts = [f"{self.num_done - failed} of {len(self._jobs)} jobs done"]
        if total := self._trained_before + len(self._runs):
            trained = self._trained_before + sum(run.finished for run in self._runs.values())
            parts.insert(0, f"{trained} of {total} runs trained")
        return ", ".join([*parts, *([f"{failed} failed"] if failed else [])])

    def summary(self) -> str:
        """Return the numbers, and the time left unless all jobs have ended."""
        if self.num_done == len(self._jobs):
            return self.numbers()
        left = self.seconds_left()
        words = "time left is not known yet" if left is None else f"about {duration(left)} left"
        return f"{self.numbers()}, {words}"

    def running(self) -> list[str]:
        """Return a line per running job, those that train first, and per run that trains in the job of another."""
        own = {job.run.name for _, job in self._running() if job.run}
        runs = [run for run in self._runs.values() if run.name in own or (run.epochs_left and run.reached)]
        total = self._trained_before + len(self._runs)
        lines = [f"run {run.number} of {total}: {run}" for run in sorted(runs, key=lambda run: run.number)]
        for number, job in self._running():
            if not job.run:
                last = self._logs[number].last.partition("  ")[2] if number in self._logs else ""
                lines.append(f"{job.name}: {last}" if last else job.name)
        return lines

    def seconds_left(self) -> float | None:
        """Estimate the time until all jobs have finished; None before the first epoch.

        Every epoch counts as the mean of those that this call has trained, and every other job as the mean of its rule.
        """
        epochs_left = sum(run.epochs_left for run in self._runs.values())
        if epochs_left and not self._num_epochs:
            return None
        training = epochs_left * self._training_s / self._num_epochs if epochs_left else 0.0
        now, others = self._clock(), 0.0
        for job in self._jobs.values():
            if not job.run and job.seconds is None and not job.failed:
                done = [one.seconds for one in self._jobs.values() if one.rule == job.rule and one.seconds is not None]
                elapsed = 0.0 if job.started is None else now - job.started
                others += job.share * max(0.0, (mean(done) if done else FIRST_GUESS_S) - elapsed)
        return training + others

    def _running(self) -> list[tuple[int, Job]]:
        return [(number, job) for number, job in list(self._jobs.items()) if job.is_running]

    def _read_log(self, number: int) -> None:
        for line in self._logs[number].read() if number in self._logs else ():
            found = EPOCH.match(line) or RESUMED.match(line)
            # On a GPU a job also trains the runs of other jobs.
            run = self._runs.get(found["run"]) if found else None
            if run and int(found["epoch"]) <= run.epochs:
                seed = int(found["seed"])
                self._give_number(run)
                run.reached[seed] = int(found["epoch"])
                if accuracy := found.groupdict().get("accuracy"):
                    run.accuracies[seed], run.latest = float(accuracy), seed
                    self._num_epochs += 1

    def _give_number(self, run: TrainedRun) -> None:
        if not run.number:
            self._num_started += 1
            run.number = self._num_started


def duration(seconds: float) -> str:
    """Return a time in words, with the digits that an estimate has: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
