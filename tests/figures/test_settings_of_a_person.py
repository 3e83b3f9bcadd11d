"""Settings of Matplotlib that a person has: figures have the same bytes, and nothing is drawn on a screen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT
from synthetic_results import STUDIES, synthetic_results

from afmp.records import write_result

DRAW = """
import sys
from afmp.figures.catalogue import Drawing
Drawing(**eval(sys.argv[1])).write(source=sys.argv[2], folder=".")
import matplotlib
assert matplotlib.get_backend() == "agg" and "matplotlib.pyplot" not in sys.modules
"""
OTHER_STYLE = b"""
backend: TkAgg
interactive: True
text.usetex: True
axes.formatter.use_locale: True
axes.facecolor: red
savefig.dpi: 37
savefig.bbox: tight
pdf.compression: 0
path.simplify: False
font.family: serif
"""
# By name: the text of matplotlibrc in the working directory and in the home, and the environment. {home} is the home.
SETTINGS = {
    "nobody's": (None, None, {}),
    "notebook": (None, OTHER_STYLE, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    "no such backend": (OTHER_STYLE, b"", {"MPLBACKEND": "nonsense"}),
    "not text": (b"axes.facecolor: \xff\n", b"\xff", {"MATPLOTLIBRC": "{home}/.config/matplotlib"}),
    "no cache": (b"backend: nonsense\n", b"", {"MPLCONFIGDIR": "/proc/nowhere", "MPLBACKEND": "TkAgg"}),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a function that draws one figure with settings of SETTINGS, and returns its files."""
    records = tmp_path_factory.mktemp("records")
    results = synthetic_results(seeds=[0])
    for index, result in enumerate(results):
        write_result(records / f"{index}.json", result)
    names = [f"{index}.json" for index in range(len(results))]
    drawing = {
        "path": "figure",
        "module": "afmp.figures.parts.study_panels",
        "settings": {"study": STUDIES[2]},
        "records": {"results": names},
    }

    def draw(name: str) -> dict[str, bytes]:
        folder, home, temporary = (tmp_path_factory.mktemp(part) for part in ("work", "home", "temporary"))
        here, at_home, environment = SETTINGS[name]
        (home / ".config/matplotlib").mkdir(parents=True)
        for content, place in ((here, folder), (at_home, home / ".config/matplotlib")):
            if content is not None:
                (place / "matplotlibrc").write_bytes(content)
        own = {key: value.format(home=home) for key, value in environment.items()}
        person = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-c", DRAW, repr(drawing), str(records)]
        subprocess.run(command, cwd=folder, env=person | own, check=True)
        assert not list(temporary.iterdir())
        return {path.name: path.read_bytes() for path in Path(folder).glob("figure.*")}

    return draw


@pytest.mark.promise("any-matplotlib-settings")
@pytest.mark.parametrize(
    "names",
    [["no such backend", "not text"], pytest.param(["notebook", "no cache"], marks=pytest.mark.long)],
    ids=" and ".join,
)
def test_a_figure_has_the_same_bytes_whatever_the_settings_of_a_person_are(drawn, names):
    files = drawn("nobody's")
    assert set(files) == {"figure.png", "figure.pdf", "figure.rst"}
    for name in names:
        assert drawn(name) == files, name
