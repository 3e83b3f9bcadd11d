# config.yaml before Snakemake reads it: what is no YAML, or what YAML would silently read as something else, is told with
# its line. Files that --configfile names Snakemake has read by now, so common.smk can look at them only afterwards.

import os
import sys

from snakemake.exceptions import WorkflowError

# The code that is watched is the code that runs, whatever else is installed; scripts inherit this.
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
