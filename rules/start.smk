# Start and end: the steps before the first job and after the last one. Snakemake has one handler of each kind for all rules,
# that of the outermost Snakefile.

from functools import cache

# Of files that are set aside: the records that Snakemake had of them.
REPLACED = {}

# The rule `train` as the outermost workflow names it.
TRAIN = workflow.modifier.modify_rulename("train")

if workflow.is_main_process and not IS_MODULE and STORAGE.default_storage_provider is None:
    keep_metadata_with_results()


@cache  # another workflow may also call `onstart` of this module
def start():
    # Executors of clusters put paths into a command within a command, which only a part of them quotes.
    if not workflow.local_exec:
        for path in (PROJECT, shlex.split(sys.executable)[0], os.getcwd()):
            if found := re.search(r"""["'$`\\!\n]""", path):
                raise WorkflowError(
                    f"{path}: found {found[0]!r} in this path, which cannot be in the command of a cluster job; "
                    "move this folder to one without it."
                )
    # One short line when a training job starts; Snakemake's own message would list every output.
    if workflow.is_rule(TRAIN):  # another workflow may use only some of the rules
        workflow.get_rule(TRAIN).message = (
            f"rule {TRAIN}: {{wildcards.run}} [{{wildcards.semantics}}], log: {{log}}"
        )
    # Cluster jobs and the report read the configuration again. They get that of this call. That of a module is the affair of
    # the other workflow.
    if not IS_MODULE:
        workflow.config_settings.configfiles = [write_configuration()]
    waiting = list(workflow.dag.needrun_jobs())
    # Parts of files that killed jobs were writing; a file that no job writes again would keep them.
    remove_leftovers(UNDECLARED)
    # A job says this too, of the device that it finds, but only after the dataset has been downloaded and prepared.
    jobs = [job.wildcards for job in waiting if job.rule.name == TRAIN]
    training = sorted({job.run for job in jobs})
    if workflow.local_exec:
        refuse_too_little_memory(training)
    refuse_wrong_rivals(training)
    set_aside(waiting)
    # On the only GPU of this machine, the first training job trains all runs of this call, and the other training jobs find
    # their runs already trained. Only this call knows its runs. Its jobs inherit the list. Two modules have two lists, so
    # their jobs get none.
    if workflow.local_exec and gpus_at_once() == 1:
        wanted = sorted((job.semantics, job.run) for job in jobs)
        of_another = IS_MODULE and WANTED_RUNS in os.environ
        os.environ.update({WANTED_RUNS: json.dumps([] if of_another else wanted)})


onstart:
    start()


onsuccess:
    put_back()


onerror:
    put_back()


# Put a step in front of a handler of the outermost workflow, which may be defined before or after its `use rule`.
def put_in_front(kind, step):
    def with_step(handler):
        def both(log):
            step()
            handler(log)

        return both

    define = getattr(workflow, kind)
    setattr(workflow, f"_{kind}", with_step(getattr(workflow, f"_{kind}")))
    setattr(workflow, kind, lambda handler: define(with_step(handler)))


# Snakemake calls no handler of a module.
if IS_MODULE:
    put_in_front("onstart", start)
    put_in_front("onsuccess", put_back)
    put_in_front("onerror", put_back)
