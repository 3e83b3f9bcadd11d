"""The promises of docs/reliability.md. A test that holds one has its name as a marker: `@pytest.mark.promise("name")`.

python tests/promises.py        # write the table of docs/reliability.md anew, from this list and the markers
"""

import ast
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs/reliability.md"
BEGIN, END = "<!-- table of promises: written by python tests/promises.py -->", "<!-- end of the table -->"


class Promise(NamedTuple):
    """One promise: its name in markers, its area, and the sentence that a user reads."""

    name: str
    area: str
    sentence: str


# fmt: off
PROMISES = [
    Promise("killed-training-resumes", "resume", "Training that is killed with `kill -9` resumes and ends with the same weights, optimizer state and history, bit for bit."),
    Promise("interrupted-training-ends-the-same", "resume", "Training that is ended at random moments, by `kill -9` or SIGTERM, ends with the files of an undisturbed run."),
    Promise("sigterm-saves-every-seed", "resume", "On SIGTERM, training ends after its epoch with every random seed saved and exit code 143, also for runs that train in parallel."),
    Promise("ctrl-c-ends-with-a-sentence", "resume", "Ctrl-C ends each job at once with one sentence and exit code 130; saved epochs and measured points stay, and the epoch in progress is lost."),
    Promise("ctrl-c-with-parallel-runs", "resume", "Runs that train in parallel on a GPU end after their epoch on Ctrl-C, and at once on a second Ctrl-C."),
    Promise("same-command-resumes", "resume", "After SIGTERM or Ctrl-C, and with files damaged meanwhile, the same workflow command resumes."),
    Promise("killed-workflow-resumes", "resume", "After Snakemake and its jobs are killed with `kill -9`, the same command resumes once `snakemake --unlock` has run."),
    Promise("damaged-checkpoint", "resume", "A damaged checkpoint is detected by its checksum, the previous one is used, and the log says so."),
    Promise("other-checkpoint", "resume", "A checkpoint of another run, dataset, configuration or code is not used, and the log says why."),
    Promise("seeds-catch-up", "resume", "Random seeds of one run that stopped at different epochs catch up first and then train together."),
    Promise("new-seed-trains-alone", "resume", "A random seed added to a finished study does not train the finished ones again."),
    Promise("resumed-elsewhere", "resume", "A run that resumes on another device or with other versions lists both in its result."),
    Promise("killed-sweep-resumes", "resume", "A sweep that is killed keeps its measured sizes and points, and its measuring process ends with it."),
    Promise("requeued-jobs", "resume", "A cluster job that is requeued or cancelled resumes, repeats nothing that is finished, and gives the result of a local run, bit for bit."),
    Promise("started-configuration", "resume", "A study ends with the configuration that it started with, even if `config.yaml` is edited meanwhile."),
    Promise("training-out-of-memory", "training", "Training that runs out of memory ends with one sentence that names the sizes to lower."),
    Promise("divergence", "training", "A loss or a weight that is not finite ends the job with its epoch and step and leaves no result; the other random seeds keep theirs."),
    Promise("parallel-runs-have-their-bits", "training", "A run that trains in parallel with others has the same bits as alone, and its failure is left to its own job."),
    Promise("jumping-clock", "training", "A clock that jumps changes no duration and trains nothing again."),
    Promise("failed-point", "sweep", "A point of the sweep that runs out of memory or fails is recorded as such, and the sweep continues."),
    Promise("sizes-of-other-conditions", "sweep", "Sizes measured on different devices, libraries or protocols are not joined; the error names the size to delete."),
    Promise("second-snakemake", "machine", "A second `snakemake` in the same folder ends at once with a sentence that says why."),
    Promise("second-trainer-waits", "machine", "With `--nolock`, a second trainer of a run waits, says for whom, and uses the finished result."),
    Promise("one-gpu-per-job", "machine", "Each GPU job of a machine has its own GPU among those that `CUDA_VISIBLE_DEVICES` allows; more jobs than GPUs wait, and a killed job frees its GPU."),
    Promise("cluster-gpu-request", "machine", "A cluster job requests one GPU if its configuration may use one, and otherwise none."),
    Promise("slurm-only-in-profiles", "machine", "Only the profiles know of SLURM."),
    Promise("no-network-after-download", "machine", "After `snakemake download`, nothing needs a network."),
    Promise("shared-downloads", "machine", "Two workflows that fill one `AFMP_DATA_DIR` at the same time both end well, even if one is killed; at most one more download happens."),
    Promise("no-file-locks", "machine", "On a file system without locks, work continues and the log says so."),
    Promise("bad-download", "files", "A download that is incomplete, refused, a web page or of another checksum is replaced by the next source."),
    Promise("every-source-fails", "files", "If every source fails, one message gives each reason, the checksum, and where to place the file by hand."),
    Promise("file-placed-by-hand", "files", "A file placed by hand is used without a network if its checksum is right, and replaced otherwise."),
    Promise("damaged-dataset", "files", "A prepared dataset that is truncated or changed is detected by its own hash and named."),
    Promise("damaged-dataset-before-training", "files", "A prepared dataset that is damaged when training starts is prepared again, with the same content."),
    Promise("failed-preparation", "files", "If preparing a dataset fails, the old file stays."),
    Promise("no-partial-file", "files", "A process killed while it writes a result, checkpoint, dataset, table or figure leaves the old file or the new one, never a part; the next writer clears its temporary file."),
    Promise("full-disk", "files", "On a full disk or in a read-only folder, one sentence names the file, and nothing that was there changes."),
    Promise("damaged-result", "files", "A result that is damaged or edited is refused by name; once it is deleted, its run is written again."),
    Promise("other-format", "files", "A file of another format than this version reads is refused by name, with both formats."),
    Promise("incomplete-archive", "files", "An archived study that is incomplete or changed is refused before anything is drawn."),
    Promise("unfinished-study-not-archived", "files", "A study that is unfinished or of another configuration is not archived; the error names the file."),
    Promise("configuration-mistake", "input", "A mistake in `config.yaml` ends the workflow before any job, with the key, the value and what is allowed."),
    Promise("repeated-key", "input", "A key that occurs twice in `config.yaml` is refused, where YAML alone would use the last one."),
    Promise("changed-configurations", "input", "Each of 1,200 randomly changed configurations resolves to what it says or is refused in one line."),
    Promise("mistake-ends-in-one-sentence", "input", "A mistake ends Snakemake in one sentence: no job, no traceback, nothing written."),
    Promise("refused-image", "input", "An image that is damaged, animated or absurdly large is refused by name."),
    Promise("image-to-rgb", "input", "A grey, palette, alpha or 16-bit image becomes RGB as documented."),
    Promise("class-folders", "input", "Class folders that are empty or differ between splits are refused by name."),
    Promise("refused-image-file", "input", "A truncated image, decompression bomb, hair-thin image, broken link, unreadable file or file that is no image is refused by name."),
    Promise("print-colours-and-rotation", "input", "A JPEG in print colours becomes RGB, and a rotation that a camera noted is not applied."),
    Promise("checked-cifar-archive", "input", "A CIFAR archive is unpickled only after its checksum is known, and then yields only arrays."),
    Promise("unfitting-graph", "input", "Weights whose graph does not fit the model are refused with the reason."),
    Promise("unfitting-weights", "input", "Weights that are not finite, truncated, a pickle with code, or of another architecture or semantics are refused with the reason, the model stays as it was, and no code of the file runs."),
    Promise("nothing-unpickled", "input", "No pickle is loaded unchecked, no archive is unpacked to the disk, and no link in one is followed."),
    Promise("same-bits-on-cpu", "numbers", "One random seed on one machine's CPU with one number of threads gives the same bits in weights, diagnostics and history, also in another process."),
    Promise("other-thread-count", "numbers", "Another number of threads (`OMP_NUM_THREADS`) gives the same numbers to rounding, not to the bit."),
    Promise("same-bits-on-gpu", "numbers", "One random seed on one CUDA GPU, trained together with the same others, gives the same bits."),
    Promise("together-or-alone", "numbers", "Random seeds trained together or alone give the same numbers to rounding at first; over many epochs rounding grows, and only means over random seeds compare."),
    Promise("same-prepared-bytes", "numbers", "A dataset prepared twice has the same bytes."),
    Promise("verify-changes-nothing", "numbers", "A finished study passes `snakemake verify`, which creates and changes nothing."),
    Promise("verify-fails-by-name", "numbers", "`snakemake verify` fails by name on a file that is missing, damaged, edited, outdated or of another run."),
    Promise("rerun-in-range", "numbers", "A rerun of an archived study is within the ranges of its `expected.yaml`, or `snakemake verify` fails."),
    Promise("range-by-chance", "numbers", "Of a thousand reruns, one is outside a range of `expected.yaml` by chance."),
]
# fmt: on


def tests_by_promise() -> dict[str, list[str]]:
    """Return the tests that are marked with each name, as `tests/file.py::test`, read from the source files."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for decorator in getattr(node, "decorator_list", []):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
                    for name in decorator.args:
                        test = f"{path.relative_to(TESTS.parent).as_posix()}::{node.name}"
                        found.setdefault(ast.literal_eval(name), []).append(test)
    return found


def page_with_table() -> str:
    """Return docs/reliability.md with the table that the markers give."""
    tests = tests_by_promise()
    rows = [
        f"| {promise.area} | {promise.sentence} | {'<br>'.join(f'`{test}`' for test in tests.get(promise.name, []))} |"
        for promise in PROMISES
    ]
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    table = "\n".join(["| area | promise | held by |", "|---|---|---|", *rows])
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(), encoding="utf-8")
