# Configuration: config.yaml is checked before Snakemake reads it, so a mistake in the YAML is reported with its line.
# Snakemake has already read the files given by --configfile. profiles/default checks them before, and common.smk again for
# a call without that profile.

import os
import sys

from snakemake.exceptions import WorkflowError

# The package next to this Snakefile must run, even if another afmp is installed. Scripts inherit this path.
sys.path.insert(0, str(workflow.basedir))
os.environ.update(
    PYTHONPATH=os.pathsep.join(filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")]))
)

from afmp.study.config_file import read_config
from afmp.errors import AfmpError

try:
    own_config = {} if COMPLETE else read_config(f"{workflow.basedir}/config.yaml")
except AfmpError as error:
    raise WorkflowError(str(error)) from None
