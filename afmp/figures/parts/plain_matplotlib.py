"""Matplotlib, imported without the settings of a person: they may name a window that is not there, or not be text."""

import os
import sys
from contextlib import chdir, contextmanager
from importlib.util import find_spec
from pathlib import Path

from afmp.machine.scratch import process_folder, temporary_files_in

BACKEND = "MPLBACKEND"


def import_matplotlib() -> None:
    """Import Matplotlib with its default settings and the backend Agg, unless it is imported already.

    The style of the figures (style.py) then overrides every setting that changes a figure.
    """
    if "matplotlib" in sys.modules:
        return
    # Matplotlib first looks for matplotlibrc in the working directory. Its own one is in this folder.
    own_settings = Path(find_spec("matplotlib").origin).parent / "mpl-data"
    # Where it cannot write its cache in the home, it makes a temporary folder, which is to be removed in any case.
    with chdir(own_settings), _only_agg(), temporary_files_in(process_folder()):
        import matplotlib

        matplotlib.get_cachedir()
        matplotlib.get_configdir()


@contextmanager
def _only_agg():
    before = os.environ.get(BACKEND)
    os.environ[BACKEND] = "agg"
    try:
        yield
    finally:
        del os.environ[BACKEND]
        if before is not None:
            os.environ[BACKEND] = before
