"""The guarantees (promises) of docs/reliability.md. The marker `@pytest.mark.promise("name")` links a test to one.

python tests/promises.py        # write the table of docs/reliability.md from this list and the markers
"""

import ast
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs/reliability.md"
BEGIN, END = "<!-- table of promises: written by python tests/promises.py -->", "<!-- end of the table -->"
HEADING = "## Each guarantee, with its tests"


class Promise(NamedTuple):
    """One guarantee: its name in markers, its area, and the sentence that a user reads."""

    name: str
    area: str
    sentence: str


# fmt: off
PROMISES = [
    Promise("killed-training-resumes", "resume", "Training that is killed with `kill -9` resumes, and ends with the same weights, optimizer state and history, bit for bit."),
    Promise("interrupted-training-ends-the-same", "resume", "Training that is interrupted at random moments, by `kill -9` or SIGTERM, ends with the files of an undisturbed run."),
    Promise("sigterm-saves-every-seed", "resume", "On SIGTERM, training ends after its epoch, with every random seed saved and exit code 143. This holds also for runs that train in parallel."),
    Promise("ctrl-c-ends-with-a-sentence", "resume", "Ctrl-C ends a job at once, unless it trains several runs in parallel (next row). The job exits with a one-line message and code 130, also while it still imports. Saved epochs and measured points stay, and the epoch in progress is lost."),
    Promise("ctrl-c-with-parallel-runs", "resume", "Runs that train in parallel on a GPU end after their epoch on Ctrl-C, and at once on a second Ctrl-C."),
    Promise("same-command-resumes", "resume", "After SIGTERM or Ctrl-C, the same workflow command resumes, even if files were damaged before it."),
    Promise("killed-workflow-resumes", "resume", "After Snakemake and its jobs are killed with `kill -9`, the same command resumes once `snakemake --unlock` has run."),
    Promise("nothing-is-done-again", "resume", "A finished study has nothing to do, wherever it is moved or copied, with or without the times of its files and its folder `.snakemake`. Code and data are compared by hash, the configuration by value."),
    Promise("checkpoints-deleted", "resume", "Without `results/checkpoints`, a finished random seed is not trained again unless its configuration, its dataset or the code that decides its numbers has changed."),
    Promise("interrupted-rerun", "resume", "A rerun that is interrupted or fails leaves the previous files in place. After `kill -9`, the next call uses them again or puts them back. No job replaces a file that there is no room to keep."),
    Promise("deleted-picture", "resume", "A file of a finished study that is deleted is made again: a picture, a table, a size of the sweep, the files of a random seed, the dataset."),
    Promise("damaged-checkpoint", "resume", "A checkpoint that is damaged, by its checksum, or gone is replaced by the previous one, and the log says so."),
    Promise("other-checkpoint", "resume", "A checkpoint of another run, dataset, configuration or version of the code is not used, and the log says why."),
    Promise("seeds-catch-up", "resume", "If the random seeds of a run stopped at different epochs, those behind catch up first. Then all train together."),
    Promise("new-seed-trains-alone", "resume", "Adding a random seed to a finished study trains only that random seed."),
    Promise("resumed-elsewhere", "resume", "A run that resumes on another device or with other versions lists all its devices and versions in its result."),
    Promise("killed-sweep-resumes", "resume", "A sweep that is killed keeps its measured sizes and points, and the process that measures ends too."),
    Promise("requeued-jobs", "resume", "A cluster job that is requeued or cancelled resumes, repeats nothing that is finished, and gives the result of a local run, bit for bit."),
    Promise("killed-archive-gets-on", "resume", "Archiving a study and drawing an archived one get on if they are killed again and again within seconds: finished files and figures are kept, temporary files do not stay, and a folder with any other file is not written into."),
    Promise("started-configuration", "resume", "A study ends with the configuration that it started with, even if `config.yaml` is edited meanwhile."),
    Promise("training-out-of-memory", "training", "Training that runs out of memory ends with a one-line error that names the sizes to lower."),
    Promise("divergence", "training", "If a loss or a weight is not finite, the job ends with an error that names epoch and step. That random seed leaves no result; the other random seeds keep theirs."),
    Promise("parallel-runs-have-their-bits", "training", "A run that trains in parallel with others ends with the same bits as if it trained alone. If it fails, only its own job reports the error."),
    Promise("rivals", "training", "A model of timm in a study is trained, resumed and verified as AFMP is. On a CPU it ends with the same bits when it is trained again or resumes, with its dropout and the statistics of its BatchNorm."),
    Promise("jumping-clock", "training", "If the system clock jumps, no duration changes and nothing is trained again."),
    Promise("failed-point", "sweep", "A point of the sweep that runs out of memory or fails is recorded as such, and the sweep continues."),
    Promise("sizes-of-other-conditions", "sweep", "Sizes measured on different devices, libraries or protocols are not joined; the error names the size to delete."),
    Promise("any-path", "machine", "The project, its Python and the working directory may lie in folders of any name: with spaces, quotes and whatever else a shell reads as more than a letter. Braces and colons in the path of the project end the workflow before any job, with an error that names the path."),
    Promise("module", "machine", "Another workflow can use this one as a Snakemake module, from a folder or a git repository, with or without a prefix. What this workflow does before the first job and after the last one, it also does then."),
    Promise("storage", "machine", "With the storage plugin `fs`, results and checkpoints are in the storage, and a job that starts in another folder resumes. Code and configuration are not looked for there. What needs a folder says so."),
    Promise("conda", "machine", "With `--sdm conda`, jobs import this project's own package."),
    Promise("any-locale", "machine", "In every locale, names of files and folders are read as UTF-8. Characters that the terminal cannot show appear as their escapes."),
    Promise("any-matplotlib-settings", "machine", "Figures have the same bytes whatever MPLBACKEND, matplotlibrc and the other settings of Matplotlib are, and nothing is drawn on a screen."),
    Promise("own-settings-of-snakemake", "machine", "The Snakemake that writes the report takes neither a profile nor another setting from a person's environment."),
    Promise("second-snakemake", "machine", "A second `snakemake` in the same folder ends at once with an error that says why."),
    Promise("second-trainer-waits", "machine", "With `--nolock`, a second process for the same run waits, logs which process it waits for, and uses the finished result."),
    Promise("one-gpu-per-job", "machine", "Each GPU job of a machine has its own GPU among those that `CUDA_VISIBLE_DEVICES` allows; a job waits if no GPU is free, and a killed job frees its GPU."),
    Promise("cluster-gpu-request", "machine", "A cluster job requests one GPU if its configuration may use one, and otherwise none."),
    Promise("slurm-only-in-profiles", "machine", "The Snakefile, the rules, the scripts and `afmp` do not refer to SLURM; only `profiles/` does."),
    Promise("no-network-after-download", "machine", "After `snakemake download`, nothing needs a network."),
    Promise("shared-downloads", "machine", "Two workflows may download into one `AFMP_DATA_DIR` at the same time. If one is killed, the other still succeeds, after at most one more download."),
    Promise("no-file-locks", "machine", "On a file system without file locks, work continues without them, and the log says so."),
    Promise("temporary-folders", "machine", "The temporary folder that a killed job leaves is removed by the next job that needs one."),
    Promise("any-temporary-folder", "machine", "Any TMPDIR will do, however long its path is. If no temporary folder can be used, a one-line error names the variable."),
    Promise("own-commit", "files", "The commit that a result records is that of this project's own checkout, or none: neither that of a repository around it nor that of one that the environment names."),
    Promise("readable-data-store", "files", "Archives in `AFMP_DATA_DIR` can be read by every user of the machine, whatever the umask of the one who downloaded them."),
    Promise("unreadable-archive", "files", "An archive that cannot be read is left as it is, and a one-line error names it and the reason."),
    Promise("bad-download", "files", "If a download is incomplete, refused, a web page, or has a wrong checksum, the next source is tried."),
    Promise("every-source-fails", "files", "If every source fails, one message gives each reason, the checksum, and where to place the file by hand."),
    Promise("file-placed-by-hand", "files", "A file placed by hand is used without a network if its checksum is right, and replaced otherwise."),
    Promise("damaged-dataset", "files", "A prepared dataset that is truncated or changed is detected by its hash, and one that is no dataset (labels outside of its classes, no test images) although its hash is right. The error names the file."),
    Promise("damaged-dataset-before-training", "files", "A prepared dataset that is damaged when training starts is prepared again, with the same content."),
    Promise("failed-preparation", "files", "If preparing a dataset fails, the old file stays unchanged."),
    Promise("no-partial-file", "files", "A process killed while it writes a result, checkpoint, dataset, table or figure leaves the complete old file or the complete new one. The next process that writes in the folder deletes the temporary file."),
    Promise("long-names", "files", "A name that is too long for the file system, or an output that cannot be written, is refused with a one-line error before the work."),
    Promise("any-umask", "files", "Whatever the umask is, the files of AFMP can be read and written by their own user."),
    Promise("full-disk", "files", "On a full disk or in a read-only folder, a one-line error names the file, and no existing file changes. If the disk is full when the workflow starts, or Snakemake cannot write its cache in the user's folder, no job starts."),
    Promise("no-plain-file", "files", "A folder, pipe, socket, device or broken link in the place of a file is refused at once in one sentence that says what it is."),
    Promise("permissions", "files", "A file that may not be read, or that lies in a folder that may not be entered, is called so in one sentence, and never missing or damaged."),
    Promise("read-only-study", "files", "`afmp verify` and `snakemake verify` check results that can only be read. (Snakemake itself has to write into `.snakemake`.)"),
    Promise("faults-of-the-machine", "files", "A file that the system refuses (no permission, a name that is too long, a fault of the disk) is a one-line error that names it, wherever it happens."),
    Promise("damaged-result", "files", "A result that is damaged or edited is refused with an error that names the file. Once the file is deleted, the same command writes it again."),
    Promise("other-format", "files", "A file of another format version is refused with an error that names the file and both versions."),
    Promise("incomplete-archive", "files", "An archived study that is incomplete or changed is refused before anything is drawn."),
    Promise("foreign-archive", "files", "Of an archive from anywhere, no file outside it is read and nothing is unpacked to disk. Names with `..` or a root, links, bombs, and a `study.json` or record that `config.yaml` does not give are refused in one sentence, in bounded memory."),
    Promise("unfinished-study-not-archived", "files", "A study that is unfinished or of another configuration is not archived; the error names the file."),
    Promise("configuration-mistake", "input", "A mistake in `config.yaml` ends the workflow before any job, with an error that names the key, the value and what is allowed."),
    Promise("wrong-rival", "input", "A name or an argument that timm does not know ends the workflow before any job, with a one-line error."),
    Promise("repeated-key", "input", "A key that occurs twice in `config.yaml` is refused. (YAML alone would use the last one.)"),
    Promise("changed-configurations", "input", "Each of 1,200 randomly changed configurations is read correctly, or refused with a one-line error."),
    Promise("mistake-ends-in-one-sentence", "input", "A mistake ends Snakemake with a one-line error. No job starts, no traceback is shown, and nothing is written."),
    Promise("hostile-configuration", "input", "A configuration that is huge, nested deeply, full of aliases, in another encoding, or that contains itself is refused within seconds, with one sentence that names file and line. This also holds for overlays, and no code of a file runs."),
    Promise("huge-studies", "input", "A study that is valid and far too large (40,000 random seeds, a picture for each of 100,000 epochs, a model that no machine holds) is refused at once. A training says what memory it takes at least before it starts, and is refused if its machine has less."),
    Promise("labels-as-written", "input", "Labels and titles are drawn as they are written, in every script that the font of the figures has. Others are refused before any job, with an error that names the characters."),
    Promise("escaped-texts", "input", "Names, labels and titles are shown as they are written in figures, tables, captions and the report: none of them is HTML, a script, reStructuredText, a link or LaTeX there."),
    Promise("refused-image", "input", "An image that is damaged, animated or far too large is refused with an error that names the file."),
    Promise("image-to-rgb", "input", "A grey, palette, alpha or 16-bit image becomes RGB as documented."),
    Promise("class-folders", "input", "Whatever is no folder of images in the place of a class or a split (a broken link, a file, a pipe, an empty folder), and classes that differ between splits, are refused with an error that names them. No class vanishes."),
    Promise("refused-image-file", "input", "A truncated image, a decompression bomb (in pixels, pages or texts), an extremely narrow image, a broken link, an unreadable file, or a file that is no image is refused with an error that names the file."),
    Promise("print-colours-and-rotation", "input", "A CMYK JPEG becomes RGB. An EXIF rotation is not applied, and a warning says so, as it does for transparent pixels."),
    Promise("checked-cifar-archive", "input", "A CIFAR archive is unpickled only after its checksum has been verified, and then only arrays are read."),
    Promise("unfitting-graph", "input", "Weights whose graph does not fit the model are refused with an error that gives the reason."),
    Promise("unfitting-weights", "input", "Weights that are not finite, truncated, a pickle with code, or of another architecture or semantics are refused with an error that gives the reason. The model stays unchanged, and no code of the file runs."),
    Promise("nothing-unpickled", "input", "No pickle is loaded unchecked, no archive is unpacked to disk, and no link in an archive is followed."),
    Promise("image-layouts", "input", "Each way in which an image stores its pixels (depth, range, transparency, meaning, planes) is read as its own tags say, or refused with an error that names the file. Formats that are not listed are never decoded."),
    Promise("class-spelling", "input", "Class names that differ only in the composition of Unicode are one class. Names that look alike are told apart in the error."),
    Promise("memory-of-images", "input", "Preparing images says how much memory their size takes before it takes it, and refuses a size that the machine has no memory for."),
    Promise("empty-validation", "input", "If no image is left to validate on, training ends with an error that says how many images it takes."),
    Promise("foreign-weights", "input", "Weights that PyTorch's wrappers saved (prefixes such as `module.`) or in fp16, bf16 or fp64 are loaded with the right values. Tensors of another kind, pickled modules, and absurd or missing metadata are refused or read in bounded memory, with a one-line error."),
    Promise("printable-names", "input", "Control characters, escape codes and direction marks in the names of folders, files and classes reach no terminal and no log as they are; messages show them as escape sequences."),
    Promise("same-bits-on-cpu", "numbers", "On the CPU of the same machine, with the same number of threads, a random seed always gives the same bits in weights, diagnostics and history, also in another process."),
    Promise("other-thread-count", "numbers", "Another number of threads (`OMP_NUM_THREADS`) gives the same numbers up to rounding error, but not the same bits."),
    Promise("same-bits-on-gpu", "numbers", "On the same CUDA GPU, a random seed that trains together with the same other random seeds always gives the same bits."),
    Promise("together-or-alone", "numbers", "Random seeds trained together or alone give the same numbers up to rounding error at first. Over many epochs this error grows, and only means over random seeds can be compared."),
    Promise("same-prepared-bytes", "numbers", "A dataset prepared twice has the same bytes."),
    Promise("verify-changes-nothing", "numbers", "A finished study passes `snakemake verify`, which creates and changes nothing."),
    Promise("verify-fails-by-name", "numbers", "`snakemake verify` fails and names each file that is missing, damaged, edited, of another run, not as it is computed again, contradicted by another file, changed since the study finished, or no part of the study."),
    Promise("deep-verification", "numbers", "`snakemake verify --config deep=true` fails if weights do not give the accuracies and gates in their results, or if a drawn random seed, trained again, ends otherwise."),
    Promise("verified-before-written", "numbers", "A report or an archive of a study that fails its checks is not written; each FAIL line is shown."),
    Promise("rerun-in-range", "numbers", "If a rerun of an archived study is outside the ranges of its `expected.yaml`, `snakemake verify` fails."),
    Promise("range-by-chance", "numbers", "Each accuracy range of `expected.yaml` is missed by chance by one correct rerun in 1,000."),
]
# fmt: on


def tests_by_promise() -> dict[str, list[str]]:
    """Return the tests marked with each name, as `tests/file.py::test`, read from the source files."""
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
    """Return docs/reliability.md with its table at the end, made from PROMISES and the markers."""
    tests = tests_by_promise()
    rows = [
        f"| {promise.area} | {promise.sentence} | {'<br>'.join(f'`{test}`' for test in tests.get(promise.name, []))} |"
        for promise in PROMISES
    ]
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    text = f"{before.strip()}\n\n{rest.split(END)[1].strip()}".strip()
    table = "\n".join(["| area | guarantee | tests |", "|---|---|---|", *rows])
    # Last, because it is longer than the rest, which a reader needs first.
    return f"{text}\n\n{BEGIN}\n\n{HEADING}\n\n{table}\n\n{END}\n"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(), encoding="utf-8")
