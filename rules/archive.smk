# Archive: a finished study put away, and its figures drawn from there. Neither is part of `all`.
# `--config archive=archive/<date>-<gpu>` says which one.

from datetime import date

# Like every path, an archive's counts from the working directory. What the clone has comes second: archives are committed
# there, and a study in a folder of its own (--directory) may have none yet.
ARCHIVES = list(dict.fromkeys(["archive", os.path.relpath(Path(workflow.basedir, "archive"))]))

NEW_ARCHIVE = ARCHIVE or f"archive/{date.today()}"

# The newest unless one is named, as names begin with the date.
FOUND = [sorted(Path(folder).glob("*/MANIFEST.json")) for folder in ARCHIVES]
NEWEST_ARCHIVES = [str(manifests[-1].parent) for manifests in FOUND if manifests]
OLD_ARCHIVE = ARCHIVE or (NEWEST_ARCHIVES or [" and ".join(ARCHIVES)])[0]


# Put the finished study away, whenever asked. It has no output, no benchmark either: the next rule starts from the
# archive's manifest, and were this the rule that makes it, drawing would train first.
rule archive:
    input:
        ALL_FIGURES,
        ALL_TABLES,
        ALL_DIAGNOSTICS,
        code=code("archive.py"),
    log:
        "results/logs/archive/archive.log",
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        archive=NEW_ARCHIVE,
    script:
        "../workflow_scripts/archive.py"


# Draw an archived study again, with its own configuration: no dataset, no GPU, no training.
rule figures_from_archive:
    input:
        code=code("figures_from_archive.py", *figure_modules(asdict(STUDY))),
        # Nothing where there is no archive: the hook in train.smk says so in a sentence.
        manifest=list(map(str, Path(OLD_ARCHIVE).glob("MANIFEST.json"))),
    output:
        folder=directory("results/figures_from_archive"),
    log:
        "results/logs/figures_from_archive/figures_from_archive.log",
    benchmark:
        "results/benchmarks/figures_from_archive/figures_from_archive.tsv"
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        archive=lambda wildcards, input: (
            os.path.dirname(input.manifest[0]) if input.manifest else OLD_ARCHIVE
        ),
    script:
        "../workflow_scripts/figures_from_archive.py"
