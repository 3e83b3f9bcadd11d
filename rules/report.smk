# Report: the page that a reader opens first, and Snakemake's report, one HTML file with every figure, table and caption.

from afmp.study.paths import FIRST_PAGE_FILE, REPORT_FILE

CITATION = Path(PROJECT, "CITATION.cff")

# `snakemake --report` writes names and labels as they are between <script> tags. The script of this rule makes them text.
if not COMPLETE and "--report" in sys.argv:
    if "<" in json.dumps(STUDY.to_dict()) + os.path.realpath(STUDY.dataset.path or ""):
        refuse(
            "--report: a name or label of this study contains <, which Snakemake would write as HTML; use the target "
            "`report` instead, which writes it as text."
        )


# What the first page says besides the study: its templates, and how to cite.
PAGE_FILES = sorted(Path(PROJECT, "report").glob("index.*"))
PAGE_FILES += [CITATION] * CITATION.is_file()
PAGE_PARTS = sources.source_hash(PAGE_FILES)

# Captions of Snakemake's report, its opening text, its style and its labels.
REPORT_FILES = sorted(Path(PROJECT, "report").glob("*.rst"))
REPORT_FILES += [Path(PROJECT, "report/report.css"), Path(PROJECT, "rules/labels.smk")]


# Make everything that the reports show, verify it once, and write both: the first page, with verdicts, figures, tables, the
# sweep, diagnostics and provenance in one HTML file that needs no network, and Snakemake's report.
# (`snakemake --report report.html` shows only what already exists.)
rule report:
    input:
        needs_own_folder,
        STUDY_FILES,
    output:
        page=in_results(FIRST_PAGE_FILE),
        report=in_results(REPORT_FILE),
    log:
        in_results(log_file("report")),
    benchmark:
        in_results(benchmark_file("report"))
    localrule: True
    conda:
        "../envs/afmp.yaml"
    params:
        code=code("report.py"),
        parts=PAGE_PARTS,
        templates=sources.source_hash(REPORT_FILES),
        # Snakemake does not rerun a job for a changed parameter whose function takes `output`.
        places=lambda wildcards, output: {"project": PROJECT, "prefix": PREFIX, "results": PLACE},
        dataset=lambda wildcards, output: on_disk(DATASET_NAME),
    script:
        "../workflow_scripts/report.py"
