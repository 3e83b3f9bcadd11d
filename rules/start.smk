# Start and end: the steps before the first job and after the last one. Snakemake has one handler of each kind for all rules,
# that of the outermost Snakefile.

# One short line when a training job starts; Snakemake's own message would list every output.
TRAIN_MESSAGE = f"rule {TRAIN}: {{wildcards.run}} [{{wildcards.semantics}}], log: {{log}}"

if workflow.is_main_process and not IS_MODULE and STORAGE.default_storage_provider is None:
    keep_metadata_with_results()
    explain_missing_records()
    for run, trained in STUDY.other_names.items():
        logger.info(
            f"Run {run!r} has the settings of run {trained!r}: it is trained once, and its files have the name {trained!r}."
        )


onstart:
    start()
    show_progress()


onsuccess:
    end_progress()
    put_back()


onerror:
    end_progress()
    put_back()


# Snakemake calls no handler of a module.
if IS_MODULE:
    put_in_front("onstart", start)
    put_in_front("onsuccess", put_back)
    put_in_front("onerror", put_back)
