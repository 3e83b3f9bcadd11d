# Archive: collect a finished study, and draw an archived one again. Neither is part of `all`.
# `--config archive=archive/<date>-<gpu>` names the archive.

from datetime import date

from afmp.finished.archive_figures import archive_drawings
from afmp.finished.opened_archive import archived_study
from afmp.study.paths import (
    FIGURES_CHECKPOINT,
    FIGURES_FROM_ARCHIVE,
    PAGE_FROM_ARCHIVE,
    TABLES_FROM_ARCHIVE,
    TABLES_OF_ARCHIVE,
    results_folder,
)

# Archives are committed to the repository. A study in its own working directory (--directory) may have archives too; those
# come first. Both paths are relative to the working directory, as all others.
ARCHIVES = list(dict.fromkeys(["archive", os.path.relpath(Path(PROJECT, "archive"))]))

NEW_ARCHIVE = ARCHIVE or f"archive/{date.today()}"

# The newest archive, unless one is named. The names of archives begin with the date.
FOUND = [sorted(Path(folder).glob(f"*/{MANIFEST}")) for folder in ARCHIVES]
NEWEST_ARCHIVES = [str(manifests[-1].parent) for manifests in FOUND if manifests]
OLD_ARCHIVE = ARCHIVE or (NEWEST_ARCHIVES or [" and ".join(ARCHIVES)])[0]


# Collect the finished study, whenever asked. If the archive were an output, `figures_from_archive` would first train a study
# to make it.
rule archive:
    input:
        needs_a_folder,
        STUDY_FILES,
    log:
        in_results(log_file("archive")),
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        archive=NEW_ARCHIVE,
        results=lambda wildcards: UNDECLARED,
        dataset=lambda wildcards: on_disk(DATASET_NAME),
    script:
        "../workflow_scripts/archive.py"


# The figures of the archived study, which differs from that in config.yaml; why there are none, if there is no archive or a
# wrong one.
try:
    ARCHIVE_DRAWINGS, ARCHIVE_ERROR = archive_drawings(archived_study(OLD_ARCHIVE)), None
except AfmpError as error:
    ARCHIVE_DRAWINGS, ARCHIVE_ERROR = [], error
# What the archive is, as a parameter: where it lies does not matter.
ARCHIVE_HASH = None
if not ARCHIVE_ERROR:
    ARCHIVE_HASH = hashlib.sha256(Path(OLD_ARCHIVE, MANIFEST).read_bytes()).hexdigest()
ARCHIVE_MODULES = sorted({drawing.module for drawing in ARCHIVE_DRAWINGS})


# Draw an archived study again, with its own configuration: without dataset, GPU or training. Snakemake deletes the outputs of
# a job that starts or fails, so each finished figure is also kept below checkpoints/.
rule figures_from_archive:
    input:
        refuse_wrong_archive,
    output:
        figures=in_results(
            f"{FIGURES_FROM_ARCHIVE}/{file}"
            for drawing in ARCHIVE_DRAWINGS
            for file in drawing.files
        ),
    log:
        in_results(log_file("figures_from_archive")),
    benchmark:
        in_results(benchmark_file("figures_from_archive"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("figures_from_archive.py", *ARCHIVE_MODULES),
        manifest=ARCHIVE_HASH,
        # Snakemake does not rerun a job for a changed parameter whose function takes `output`.
        archive=lambda wildcards, output: OLD_ARCHIVE,
        folder=lambda wildcards, output: results_folder(output[0], ARCHIVE_DRAWINGS[0].files[0]),
        finished=on_disk(FIGURES_CHECKPOINT),
    # The archive is no input, so Snakemake's own message would not name it.
    message:
        "rule figures_from_archive: draws {params.archive}, log: {log}"
    script:
        "../workflow_scripts/figures_from_archive.py"


# The summary and the differences of an archived study, as CSV, LaTeX and Markdown: without dataset, GPU or training.
rule tables_from_archive:
    input:
        refuse_wrong_archive,
    output:
        **{
            name: in_results(f"{TABLES_FROM_ARCHIVE}/{file}")
            for table in TABLES_OF_ARCHIVE
            for name, file in files_of_table(table).items()
        },
    log:
        in_results(log_file("tables_from_archive")),
    benchmark:
        in_results(benchmark_file("tables_from_archive"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("tables_from_archive.py"),
        manifest=ARCHIVE_HASH,
        # Snakemake does not rerun a job for a changed parameter whose function takes `output`.
        archive=lambda wildcards, output: OLD_ARCHIVE,
    # The archive is no input, so Snakemake's own message would not name it.
    message:
        "rule tables_from_archive: reads {params.archive}, log: {log}"
    script:
        "../workflow_scripts/tables_from_archive.py"


# The first page of an archived study: with diagnostics of the last epoch only, as `figures_from_archive` draws no others.
rule page_from_archive:
    input:
        refuse_wrong_archive,
        figures=rules.figures_from_archive.output.figures,
    output:
        in_results(PAGE_FROM_ARCHIVE),
    log:
        in_results(log_file("page_from_archive")),
    benchmark:
        in_results(benchmark_file("page_from_archive"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("page_from_archive.py"),
        parts=PAGE_PARTS,
        claims=CLAIMS_CONTENT,
        manifest=ARCHIVE_HASH,
        # Snakemake does not rerun a job for a changed parameter whose function takes `output`.
        archive=lambda wildcards, output: OLD_ARCHIVE,
        project=lambda wildcards, output: PROJECT,
        folder=lambda wildcards, input, output: results_folder(
            input.figures[0], ARCHIVE_DRAWINGS[0].files[0]
        ),
    # The archive is no input, so Snakemake's own message would not name it.
    message:
        "rule page_from_archive: reads {params.archive}, log: {log}"
    script:
        "../workflow_scripts/page_from_archive.py"
