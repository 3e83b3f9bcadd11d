# Configuration: config.yaml is checked before Snakemake reads it, so a mistake in the YAML is reported with its line.
# Snakemake has already read the files given by --configfile. profiles/default checks them before, and common.smk again for
# a call without that profile.

import os
import shlex
import sys

for character, reader in {"{": "Snakemake", "}": "Snakemake", os.pathsep: "Python"}.items():
    if character in PROJECT:
        refuse(
            f"{PROJECT}: found {character!r} in the path of this project, where {reader} reads it as more than a letter; "
            "move the project to a folder without it."
        )

IS_MODULE = not workflow.modifier.is_main_snakefile()

# The package next to this Snakefile must run, even if another afmp is installed. Scripts inherit this path.
sys.path.insert(0, PROJECT)
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [PROJECT, os.environ.get("PYTHONPATH")])))

from afmp import sources
from afmp.errors import AfmpError
from afmp.process import check_utf8
from afmp.records import check_room

if not os.path.samefile(sources.PROJECT, PROJECT):
    refuse(
        f"module: {PROJECT}: the package afmp of another folder, {sources.PROJECT}, is loaded already; use only one version of "
        "this workflow in one workflow."
    )

try:
    check_utf8()
except AfmpError as error:
    refuse(error)

try:
    check_room(".snakemake", num_bytes=100_000)
except AfmpError as error:
    refuse(
        f"{error} Snakemake keeps its own files there. `afmp verify` checks a study that can only be read."
    )

# Jobs read and write UTF-8, too.
os.environ.update(PYTHONUTF8="1")
os.environ.pop("PYTHONIOENCODING", None)

# Snakemake puts the path of Python unquoted into the shell commands of jobs. A path that is quoted already is no file.
if os.path.exists(sys.executable):
    sys.executable = shlex.quote(sys.executable)

from afmp.study.config_file import read_config

try:
    own_config = {} if COMPLETE else read_config(f"{PROJECT}/config.yaml")
except AfmpError as error:
    refuse(error)
