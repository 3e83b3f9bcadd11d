"""Result paths and table names: the only place that spells them. The top of the Snakefile lists them for readers.

Every path is relative to the results folder, so that it is also valid in an archive. The workflow puts `in_results`
around it. Every argument may be a value or a Snakemake wildcard: `result_file("{semantics}", "{run}", 0)`.
"""

from collections.abc import Iterable

RESULTS = "results"  # the results folder of the workflow


def in_results(paths):
    """Return one path, or a list of paths, below the workflow's results folder."""
    return f"{RESULTS}/{paths}" if isinstance(paths, str) else [f"{RESULTS}/{path}" for path in paths]


def results_folder(path: str, file: str) -> str:
    """Return the results folder in which `path` is the file `file`.

    Snakemake may place it elsewhere than RESULTS: behind the prefix of a module, or in the local copy of a storage.
    """
    folder = path.removesuffix(f"/{file}")
    if folder == path:
        raise ValueError(f"{path} is not {file} in any folder")
    return folder


# Data

DOWNLOAD_FOLDER = "download"  # archives as they were fetched


def dataset_file(source: str) -> str:
    """Path of the prepared dataset."""
    return f"prepare_data/{source}.safetensors"


def dataset_hash_file(source: str) -> str:
    """Path of the file with the prepared dataset's hash."""
    return f"prepare_data/{source}.sha256"


FOLDER_DIGEST_FILE = "prepare_data/folder_digest.json"  # of the image folder, as it was last read


# Training

WEIGHTS = ("best", "final")
DIAGNOSTICS_NAME = "diagnostics.json"


def weights_name(which: str) -> str:
    """Name of a weights file in its seed folder; `which` is one of WEIGHTS."""
    return f"{which}.safetensors"


def result_name(run: str) -> str:
    """Name of a result file in its seed folder."""
    return f"results_{run}.json"


def seed_file_names(run: str) -> list[str]:
    """Names of all files in a seed folder, in the order of writing: where the result exists, so do the others."""
    return [*map(weights_name, WEIGHTS), DIAGNOSTICS_NAME, result_name(run)]


def seed_name(seed: int | str) -> str:
    """Name of a seed folder."""
    return f"seed_{seed}"


def train_folder(semantics: str, run: str) -> str:
    """Path of the folder with all files of one run."""
    return f"train/{semantics}/{run}"


def seed_folder(semantics: str, run: str, seed: int | str) -> str:
    """Path of the folder with the files of one trained seed."""
    return f"{train_folder(semantics, run)}/{seed_name(seed)}"


def weights_file(semantics: str, run: str, seed: int | str, which: str) -> str:
    """Path of the weights of one trained seed; `which` is one of WEIGHTS."""
    return f"{seed_folder(semantics, run, seed)}/{weights_name(which)}"


def diagnostics_file(semantics: str, run: str, seed: int | str) -> str:
    """Path of the diagnostics of one trained seed."""
    return f"{seed_folder(semantics, run, seed)}/{DIAGNOSTICS_NAME}"


def result_file(semantics: str, run: str, seed: int | str) -> str:
    """Path of the result of one trained seed."""
    return f"{seed_folder(semantics, run, seed)}/{result_name(run)}"


def result_files(semantics: str, runs: Iterable[str], seeds: Iterable[int | str]) -> list[str]:
    """Paths of the results of these runs, run by run, every seed."""
    seeds = list(seeds)
    return [result_file(semantics, run, seed) for run in runs for seed in seeds]


# Checkpoints: no output of any rule, because Snakemake deletes the outputs of a job that fails.

CHECKPOINTS = "checkpoints"


def checkpoint_folder(semantics: str, run: str) -> str:
    """Path of the folder with the checkpoints of one run."""
    return f"{CHECKPOINTS}/{semantics}/{run}"


def seed_checkpoint_name(seed: int | str, key: str) -> str:
    """Name, without an ending, of a seed's checkpoint; `key` identifies what decides the seed's numbers.

    A folder of this name contains the files of a seed that the job of another run finished.
    """
    return f"{seed_name(seed)}_{key}"


def seed_checkpoint_file(seed: int | str, key: str) -> str:
    """Name of a seed's checkpoint in its checkpoint folder; `key` as for `seed_checkpoint_name`."""
    return f"{seed_checkpoint_name(seed, key)}.safetensors"


def previous_checkpoint_name(name: str) -> str:
    """Name under which the checkpoint before `name` is kept."""
    return f"{name}.before"


TENSORBOARD = "tensorboard"  # scalars of trainings, if `training/tensorboard` asks for them


def tensorboard_folder(semantics: str, run: str) -> str:
    """Path of the folder with the scalars of one run for TensorBoard, a folder per seed."""
    return f"{TENSORBOARD}/{semantics}/{run}"


SET_ASIDE = "set_aside"  # laid out as the results folder: files that the jobs of this call replace


def benchmark_checkpoint(resolution: int | str) -> str:
    """Path of the file with the points of one image size that were measured before."""
    return f"{CHECKPOINTS}/benchmark_resolution/{resolution}.jsonl"


FIGURES_CHECKPOINT = f"{CHECKPOINTS}/figures_from_archive"  # finished figures of an archived study

PASSED_CHECKS = f"{CHECKPOINTS}/verify"  # checks that a study passed before it is archived or reported


# Scalability

PARAMETERS_FILE = "count_parameters/parameters.json"


def resolution_file(semantics: str, resolution: int | str) -> str:
    """Path of the part of a sweep at one image size."""
    return f"benchmark_resolution/{semantics}/{resolution}.json"


def scalability_file(semantics: str) -> str:
    """Path of a whole sweep."""
    return f"benchmark_scalability/{semantics}/scalability.json"


# Tables

RUN_TABLES = ("epochs", "summary", "differences")
SWEEP_TABLES = ("scalability", "scalability_ratios", "scalability_fits", "parameters")
CLAIMS_TABLE = "claims"  # the answers to all claims; not in a folder, because a reader looks for them first
TABLES = (*RUN_TABLES, *SWEEP_TABLES, CLAIMS_TABLE)
PAGED_TABLES = tuple(table for table in TABLES if table != "epochs")  # `epochs` is too long for a page
PRINTED_TABLES = ("summary", "differences", CLAIMS_TABLE)  # that also have a form for publication


def table_file(table: str, ending: str = "csv") -> str:
    """Path of a table."""
    return f"{table}.{ending}" if table == CLAIMS_TABLE else f"aggregate/{table}.{ending}"


def files_of_table(table: str) -> dict[str, str]:
    """Return the paths of all files of a table, by the names under which `write_tables` writes them."""
    files = {table: table_file(table), f"{table}_caption": table_file(table, "rst")}
    if table in PAGED_TABLES:
        files[f"{table}_page"] = table_file(table, "html")  # a page of the report
    if table in PRINTED_TABLES:
        files |= {f"{table}_latex": table_file(table, "tex"), f"{table}_markdown": table_file(table, "md")}
    return files


CLAIMS_FILE = "claims.yaml"  # the claims that were answered

# Figures

FIGURE_ENDINGS = ("png", "pdf", "rst")  # the figure twice and its caption
DIAGNOSTICS_ENDINGS = ("png", "rst")
NOTEBOOK_VS_PAPER = "figures/notebook_vs_paper"  # without an ending, as `figure_path`


def figure_path(semantics: str, figure: str) -> str:
    """Path, without an ending, of a figure of one semantics."""
    return f"figures/{semantics}/{figure}"


def figure_files(path: str, endings: Iterable[str] = FIGURE_ENDINGS) -> list[str]:
    """Paths of all files of the figure that has this path without an ending."""
    return [f"{path}.{ending}" for ending in endings]


def plot_diagnostics_folder(semantics: str, run: str) -> str:
    """Path of the folder with the figures of one run's diagnostics."""
    return f"plot_diagnostics/{semantics}/{run}"


def plot_diagnostics_path(semantics: str, run: str, epoch: int) -> str:
    """Path, without an ending, of the diagnostics figure of one epoch (1-based)."""
    return f"{plot_diagnostics_folder(semantics, run)}/epoch_{epoch:0>4}"


# Manifest, report, archive, verification

MANIFEST_FILE = "manifest.json"  # hashes of the files of a finished study
REPORT_FILE = "report/report.html"
FIRST_PAGE_FILE = "report/index.html"
SNAKEMAKE_METADATA = "snakemake_metadata"  # Snakemake's records of the jobs that wrote the results
FIGURES_FROM_ARCHIVE = "figures_from_archive"
CLAIMS_FROM_ARCHIVE = "claims_from_archive"
TABLES_FROM_ARCHIVE = "tables_from_archive"
TABLES_OF_ARCHIVE = ("summary", "differences")  # that are written there, also for publication
PAGE_FROM_ARCHIVE = "page_from_archive/index.html"
CHECKS_FILE = "logs/verify/checks.txt"  # the lines that `snakemake verify` prints


def image_file(index: int) -> str:
    """Path, in an archive, of the test image on which the gates were recorded."""
    return f"test_images/{index}.png"


# Logs and benchmarks of every rule

LOGS, BENCHMARKS = "logs", "benchmarks"


def log_file(rule: str, job: str = "") -> str:
    """Path of a job's log; `job` is what tells the jobs of one rule apart, as in "{semantics}/{run}"."""
    return f"{LOGS}/{rule}/{job or rule}.log"


def benchmark_file(rule: str, job: str = "") -> str:
    """Path of the time and memory that Snakemake measures of a job; `job` as for `log_file`."""
    return f"{BENCHMARKS}/{rule}/{job or rule}.tsv"
