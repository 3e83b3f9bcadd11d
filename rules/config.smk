# Configuration: config.yaml is checked before Snakemake reads it, so that a mistake in the YAML is reported with its line.
# Files given by --configfile have been read by now; common.smk checks them.

import os
import sys

from snakemake.exceptions import WorkflowError

# The code that rules watch must be the code that runs, even if another afmp is installed. Scripts inherit this.
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
