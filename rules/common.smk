# Shared parts of the rules: the checked study, the targets, helper functions, and the source files that a job depends on.

import csv
import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from snakemake.logging import logger

from afmp.analysis.wording import escape_rst
from afmp.data.folder_digest import folder_digest
from afmp.data.image_folder import check_image_folder
from afmp.figures.catalogue import figures, is_compared
from afmp.finished.depth import read_depth
from afmp.finished.manifest import MANIFEST
from afmp.finished.other_study import other_study
from afmp.finished.study_files import study_files
from afmp.machine.memory import host_bytes
from afmp.records import remove_leftovers, write_text
from afmp.study.claims import check_names, found_claims, naming, resolve_claims
from afmp.study.paths import (
    FOLDER_DIGEST_FILE,
    LOGS,
    MANIFEST_FILE,
    RESULTS,
    SET_ASIDE,
    SNAKEMAKE_METADATA,
    benchmark_file,
    dataset_file,
    dataset_hash_file,
    files_of_table,
    in_results,
    log_file,
)
from afmp.study.overlays import without_removed
from afmp.study.memory import check_memory, training_bytes
from afmp.study.study import resolve_study
from afmp.training.job import WANTED_RUNS
from afmp.training.reuse import link_files
from afmp.training.tensorboard import check_tensorboard

try:
    # A complete configuration was put together from files that have been checked.
    parts = [] if COMPLETE else [read_config(path) for path in workflow.configfiles]
    if not isinstance(ARCHIVE, str | None):
        raise AfmpError(f"config: archive: found {ARCHIVE!r}; allowed: text, the path of a folder.")
    DEPTH = read_depth(DEPTH_OPTIONS)
    # An overlay's studies come first in `config`. A run that is also in config.yaml keeps its name from config.yaml.
    if isinstance(config.get("studies"), dict) and isinstance(own_config.get("studies"), dict):
        order = [name for name in own_config["studies"] if name in config["studies"]]
        config["studies"] = {name: config["studies"][name] for name in [*order, *config["studies"]]}
    config.update(without_removed(config, [own_config, *parts]))
    STUDY = resolve_study(config)
    with naming(found_claims(PROJECT)):
        CLAIMS_CONTENT = read_config(found_claims(PROJECT))
        CLAIMS = resolve_claims(CLAIMS_CONTENT)
    check_names(CLAIMS, STUDY, path=found_claims(PROJECT))
    # An overlay in JSON gives ordered dictionaries, which YAML cannot write for the report and the archive.
    config.update(json.loads(json.dumps(config)))
except AfmpError as error:
    refuse(error)

# Snakemake puts the prefix of a module in front of the files that rules declare, and of no others.
PLACE = workflow.modifier.path_modifier.replace_prefix(f"{RESULTS}/").rstrip("/")
PREFIX = PLACE.removesuffix(RESULTS)
# A job's folder may be gone after the job where files are in a storage. So checkpoints are in the storage `fs`, too, which is
# a folder. Nothing but Snakemake can write into another storage.
STORAGE = workflow.storage_settings
UNDECLARED = PLACE
if STORAGE.default_storage_provider == "fs":
    UNDECLARED = os.path.join(STORAGE.default_storage_prefix or "", PLACE)

# The rule `train` as the outermost workflow names it.
TRAIN = workflow.modifier.modify_rulename("train")

DATASET_NAME = dataset_file(STUDY.dataset.source)
DATASET_FILE = in_results(DATASET_NAME)
# What is made from the dataset depends on this small file, whose content Snakemake compares. The dataset itself is `ancient`.
DATASET_HASH = in_results(dataset_hash_file(STUDY.dataset.source))
COMPARE_SEMANTICS = any(is_compared(study, STUDY.semantics) for study in STUDY.studies)

# Every file of the finished study.
STUDY_FILES = in_results([*study_files(STUDY), MANIFEST_FILE])
ALL_TABLES = in_results(file for table in STUDY.tables for file in files_of_table(table).values())


wildcard_constraints:
    semantics="|".join(dict.fromkeys([*STUDY.semantics, *(name for name, _ in STUDY.trainings)])),
    run="|".join(re.escape(run) for run in STUDY.runs),
    resolution=r"\d+",


# Source files whose edits cannot change an output: log.py only writes progress, process.py only ends a process, and a job
# whose paths change runs anyway, because its files are missing.
UNWATCHED = ("afmp/log.py", "afmp/process.py", "afmp/study/paths.py")


# Hash of a script and of the source files that it imports, as a parameter of its rule. Snakemake compares parameters by
# value, and would compare input files by path and time. `modules` are those that the script imports by a name in a string.
def code(script, *modules):
    script = sources.PROJECT / "workflow_scripts" / script
    closure = sources.import_closure(script, *modules)
    watched = [path for path in closure if not path.as_posix().endswith(UNWATCHED)]
    return sources.source_hash([script, *watched])


# Outputs for one table: as CSV, as a page of the report, its caption, and its forms for publication if it has them.
def table_files(table, *, category, labels):
    files = {name: in_results(path) for name, path in files_of_table(table).items()}
    page = f"{table}_page"
    files[page] = report(
        files[page],
        caption=f"../report/{table}.rst",
        category=in_menu(category),
        labels=labels,
    )
    return files


# Refuse notebook_vs_paper.
def needs_both_semantics(wildcards):
    refuse(
        f"config: semantics: found {STUDY.semantics}, but notebook_vs_paper draws the same runs under both; "
        "allowed with it: [paper, notebook]."
    )


# Refuse what is made of the sweep, where a study has none.
def needs_a_sweep(wildcards):
    refuse(
        "config: scalability: found null, so this study has no sweep over image sizes; allowed for this target: the "
        "keys of a sweep, as config.yaml of the project has them."
    )


# Refuse a folder of images that the first job would refuse for the names in it, such as a class without images.
def refuse_wrong_images(folder):
    try:
        check_image_folder(Path(folder))
    except AfmpError as error:
        refuse(error)


# What the images are, as a parameter of a rule: where they lie and when they were written does not matter.
def images(wildcards):
    dataset = STUDY.dataset
    content = None
    if dataset.source == "folder":
        if not Path(on_disk(DATASET_NAME)).exists():
            refuse_wrong_images(dataset.path)
        content = folder_digest(dataset.path, known=on_disk(FOLDER_DIGEST_FILE))
    return {"source": dataset.source, "image_size": dataset.image_size, "content": content}


# Path of a file below results/ that no rule declares.
def on_disk(path):
    return f"{UNDECLARED}/{path}"


# Refuse a target whose job reads the results as a folder, unless the storage is one.
def needs_a_folder(wildcards):
    if STORAGE.default_storage_provider not in (None, "fs"):
        refuse_storage("verify, archive and report read")
    return []


# The same for the report, which Snakemake writes from files and its records of them in one folder.
def needs_own_folder(wildcards):
    if STORAGE.default_storage_provider is not None:
        refuse_storage("report reads")
    return []


def refuse_storage(readers):
    refuse(
        f"--default-storage-provider: found {STORAGE.default_storage_provider}, but {readers} the results as a "
        "folder; copy results/ from the storage to a folder with its times (cp -a, rsync -a), and run this target there "
        "without the storage."
    )


# Write this call's configuration to a file and return its path. Its name contains a hash of the content, because jobs of
# two calls may wait in one queue.
def write_configuration():
    content = json.dumps(config | {"complete": True})
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return written(f".snakemake/afmp-configuration-{digest}.json", content)


# Write a text unless it is there already, and return its absolute path.
def written(path, text):
    path = Path(path).absolute()
    try:
        if not (path.is_file() and path.read_text(encoding="utf-8") == text):
            write_text(path, text)
    except (AfmpError, OSError, UnicodeDecodeError) as error:
        refuse(error)
    return path


# Keep Snakemake's records of finished jobs with the results. It decides by them what has changed, and results that are moved
# or copied without .snakemake would be without them.
def keep_metadata_with_results():
    place, link = Path(in_results(SNAKEMAKE_METADATA)), Path(".snakemake/metadata")
    with suppress(OSError):  # a study that can only be read
        place.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(exist_ok=True)
        if link.is_symlink() and link.exists() and link.samefile(place):
            return
        # Made first: on a disk without links, the records stay where they are.
        new = link.with_name("metadata.new")
        new.unlink(missing_ok=True)
        new.symlink_to(os.path.relpath(place.resolve(), link.parent.resolve()))
        # A folder is of an older release, or of a copy that follows links.
        if link.is_dir() and not link.is_symlink():
            if any(place.iterdir()):
                shutil.rmtree(link)
            else:
                link.replace(place)
        new.replace(link)


# Of files that are set aside: the records that Snakemake had of them.
REPLACED = {}


# Say how a finished study that has none of Snakemake's records of it, as a part of a copy, is not computed again.
def explain_missing_records():
    place = Path(on_disk(SNAKEMAKE_METADATA))
    if Path(on_disk(MANIFEST_FILE)).exists() and not (place.is_dir() and any(place.iterdir())):
        logger.info(
            f"{PLACE}/ has a finished study, but not Snakemake's records of it ({place}), so here the times of files "
            "decide what runs again. If it was copied or cloned, copy the records too. Without them: `snakemake verify` "
            "compares all files with their hashes, and `snakemake all --touch` then takes them as they are."
        )


# Say once, before a call trains or only shows what it would train, if results of another study lie where it writes its
# own, as when an overlay is forgotten.
def warn_of_other_study(wildcards):
    if workflow.is_main_process and not IS_MODULE:
        say_other_study()
    return []


@cache
def say_other_study():
    if other := other_study(STUDY, UNDECLARED):
        logger.warning(
            f"Warning: {other}. Otherwise this call computes its own study beside them or over them."
        )


# Set the outputs aside that the jobs of this call replace: Snakemake deletes them before a job starts. Without room for them
# no job starts.
def set_aside(jobs):
    files = [file for job in jobs for file in job.output if file.startswith(f"{PLACE}/")]
    for file in filter(os.path.isfile, files):
        kept = Path(on_disk(SET_ASIDE), os.path.relpath(file, PLACE))
        REPLACED[kept] = file, workflow.persistence.metadata(file)
        try:
            link_files([kept.name], Path(file).parent, kept.parent)
        except (OSError, AfmpError) as error:
            refuse(error)


# At the end of a call, put back what was set aside and not replaced, because its job was interrupted or failed. Its record
# of before says whether it is up to date. What cannot be put back stays for the next call.
def put_back():
    folder = Path(on_disk(SET_ASIDE))
    for kept in [path for path in folder.rglob("*") if path.is_file()]:
        place = Path(PLACE, kept.relative_to(folder))
        if not place.exists():
            try:
                link_files([kept.name], kept.parent, place.parent)
            except (OSError, AfmpError):
                continue
            # What an earlier call set aside, which was killed, has no record here. Snakemake makes it again.
            if kept in REPLACED:
                file, record = REPLACED[kept]
                workflow.persistence.cleanup_metadata(file)
                if record:
                    workflow.persistence._write_record(str(file), record)
        kept.unlink(missing_ok=True)
    if not any(path.is_file() for path in folder.rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)


# GPUs that a job needs: a job that trains or measures times needs one, unless its device is `cpu`.
def gpus(device):
    return 0 if device == "cpu" else 1


# Number of GPU jobs that may run at once; None if the command line does not say.
def gpus_at_once():
    gpu = workflow.global_resources.get("gpu")
    return getattr(gpu, "value", gpu)


# Cores of a job that measures times: all of them, so that nothing runs in parallel with it. With --resources gpu=N, N sizes
# are timed at once, each on its own GPU with its share of the cores. On a cluster the number of cores is unknown, so 4, as
# for training.
def timing_threads(wildcards):
    at_once = gpus_at_once() if gpus(STUDY.scalability["device"]) else 1
    return max(1, (workflow.resource_settings.cores or 4) // max(1, at_once or 1))


# Refuse this call if one of these runs, which trains on the CPU of this machine, does not fit its memory.
def refuse_too_little_memory(runs):
    for run, config in (
        (run, STUDY.runs[run]) for run in runs if not STUDY.runs[run].model.is_rival
    ):
        needed = training_bytes(config, seeds=len(STUDY.seeds), together=1, images=1)
        if config.training.device == "cpu":
            try:
                check_memory(run, config, needed, available=host_bytes(), where="this machine has")
            except AfmpError as error:
                refuse(error)


# Refuse this call if timm does not build the model of one of these runs. A job says this too, but only after the dataset
# has been downloaded and prepared. PyTorch and timm load slowly, so only a study with such a run loads them.
def refuse_wrong_rivals(runs):
    rivals = [run for run in runs if STUDY.runs[run].model.is_rival]
    if not rivals:
        return
    try:
        from afmp.model.rival import check_rival

        for run in rivals:
            check_rival(STUDY.runs[run])
    except AfmpError as error:
        refuse(error)
    except ModuleNotFoundError:
        pass  # this process is without PyTorch or timm; the jobs have both


# Refuse this call if scalars for TensorBoard are asked for without the package. With --sdm, jobs have packages of their own.
def refuse_missing_tensorboard():
    if STUDY.tensorboard and not workflow.deployment_settings.deployment_method:
        try:
            check_tensorboard()
        except AfmpError as error:
            refuse(error)


# By verdict, the claims in reStructuredText with their semantics, for the text on which the report opens. Read as captions are.
def verdicts(wildcards, output):
    found = {}
    if Path(output.claims).exists():
        with open(output.claims, encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                claims = found.setdefault(row["claim_verdict"], {})
                semantics = claims.setdefault(escape_rst(row["claim"]), {})
                semantics[row["semantics"]] = True
    return dict(sorted(found.items(), reverse=True))  # holds, fails, cannot tell


# The captions of a rule's figures and tables by file name without .rst. Jobs write them, and the report reads them.
# Snakemake does not rerun a job for a changed parameter whose function takes `output`.
def captions(wildcards, output):
    found = [Path(path) for path in output if path.endswith(".rst")]
    return {path.stem: path.read_text(encoding="utf-8") for path in found if path.exists()}


# A wrong archive ends the calls that need it, before any job, and disturbs no other.
def refuse_wrong_archive(wildcards):
    if ARCHIVE_ERROR:
        refuse(ARCHIVE_ERROR)
    return []


# Write the template of the captions of one epoch's diagnostics, and return its path. Snakemake tells a template its job, but
# not for which of the job's pictures it is.
def diagnostics_template(epoch):
    template = Path(sources.PROJECT, "report/diagnostics.rst").read_text(encoding="utf-8")
    return written(
        f".snakemake/afmp-captions/{epoch}.rst", f'{{% set epoch = "{epoch:04}" %}}{template}'
    )


# Do all that is needed before the first job.
@cache  # another workflow may also call `onstart` of this module
def start():
    # Executors of clusters put paths into a command within a command, which only a part of them quotes.
    if not workflow.local_exec:
        for path in (PROJECT, shlex.split(sys.executable)[0], os.getcwd()):
            if found := re.search(r"""["'$`\\!\n]""", path):
                refuse(
                    f"{path}: found {found[0]!r} in this path, which cannot be in the command of a cluster job; "
                    "move this folder to one without it."
                )
    if not workflow.local_exec and STORAGE.default_storage_provider not in (None, "fs"):
        logger.warning(
            f"--default-storage-provider: found {STORAGE.default_storage_provider}, into which only Snakemake writes; "
            f"checkpoints are in {PLACE}/ of the folder where a job runs, and a killed job that starts in another folder "
            "trains from the beginning. Mount the storage as a folder and use `fs`, and checkpoints are in it."
        )
    if workflow.is_rule(TRAIN):  # another workflow may use only some of the rules
        workflow.get_rule(TRAIN).message = TRAIN_MESSAGE
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
    if training:
        refuse_missing_tensorboard()
    set_aside(waiting)
    # On the only GPU of this machine, the first training job trains all runs of this call, and the other training jobs find
    # their runs already trained. Only this call knows its runs. Its jobs inherit the list. Two modules have two lists, so
    # their jobs get none.
    if workflow.local_exec and gpus_at_once() == 1:
        wanted = sorted((job.semantics, job.run) for job in jobs)
        of_another = IS_MODULE and WANTED_RUNS in os.environ
        os.environ.update({WANTED_RUNS: json.dumps([] if of_another else wanted)})


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
