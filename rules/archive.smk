# Archive: collect a finished study, and draw an archived one again. Neither is part of `all`.
# `--config archive=archive/<date>-<gpu>` names the archive.

from datetime import date

from afmp.study.paths import FIGURES_FROM_ARCHIVE

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
        ALL_FIGURES,
        ALL_TABLES,
        ALL_DIAGNOSTICS,
        code=code("archive.py"),
    log:
        in_results(log_file("archive")),
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        archive=NEW_ARCHIVE,
    script:
        "../workflow_scripts/archive.py"


# Draw an archived study again, with its own configuration: without dataset, GPU or training.
rule figures_from_archive:
    input:
        code=code("figures_from_archive.py", *figure_modules(asdict(STUDY))),
        # Empty without an archive: the hook in start.smk then ends the call with a one-line error.
        manifest=list(map(str, Path(OLD_ARCHIVE).glob(MANIFEST))),
    output:
        folder=directory(in_results(FIGURES_FROM_ARCHIVE)),
    log:
        in_results(log_file("figures_from_archive")),
    benchmark:
        in_results(benchmark_file("figures_from_archive"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        archive=lambda wildcards, input: (
            os.path.dirname(input.manifest[0]) if input.manifest else OLD_ARCHIVE
        ),
    script:
        "../workflow_scripts/figures_from_archive.py"
