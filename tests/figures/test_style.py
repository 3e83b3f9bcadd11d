"""Style and files of all figures: equal bytes, no foreign settings, and footers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from synthetic_results import STUDIES, synthetic_results

from afmp.figures.parts import study_panels, style


def test_no_line_of_a_footer_starts_with_a_percent_sign():
    figure = style.new_figure(2, 2)
    style.add_footer(figure, ["in brackets and as the bands: 95 % of what"])
    assert figure.get_supxlabel().split("\n") == ["in brackets and as the bands:", "95\u00a0% of what"]


def test_equal_figures_give_equal_files_without_a_date(tmp_path):
    files = []
    for name in ("one", "other"):
        figure = study_panels.draw(STUDIES[2], synthetic_results(seeds=[0]))
        png, pdf = tmp_path / name / "figure.png", tmp_path / name / "figure.pdf"
        style.save_figure(figure, png=png, pdf=pdf)
        files.append((png.read_bytes(), pdf.read_bytes()))
    assert files[0] == files[1]
    assert b"CreationDate" not in files[0][1]
    width, height = np.frombuffer(files[0][0][16:24], dtype=">u4")
    assert width == 12 * style.DPI and height > 8 * style.DPI


def test_drawing_changes_no_matplotlib_setting_and_imports_no_torch():
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from afmp.figures import diagnostics, notebook_vs_paper, scalability_fits, scalability_results\n"
        "from afmp.figures import comparison_results_full, lambda_sparse_comparison\n"
        "from afmp.figures.parts import study_panels\n"
        "from synthetic_results import STUDIES, synthetic_results\n"
        "study_panels.draw(STUDIES[0], synthetic_results())\n"
        "foreign = {'torch', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "sys.exit(bool(foreign) or matplotlib.rcParams.copy() != before)"
    )
    here = Path(__file__).parent
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{here}:{here.parent}"}).returncode == 0
