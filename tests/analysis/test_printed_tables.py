"""Tables for publication: they have the numbers of the CSV files, and names are text there."""

import json
import re

import pandas
import pytest
from synthetic_results import STUDIES, synthetic_results

from afmp.analysis.printed_tables import (
    LATEX,
    OUTSIDE,
    PrintedTable,
    escape_latex,
    escape_markdown,
    latex,
    markdown,
    printed_differences,
    printed_summary,
)
from afmp.analysis.study_tables import differences_table, summary_table
from afmp.analysis.table_files import write_csv, write_tables
from afmp.analysis.tables import run_tables
from afmp.study.paths import files_of_table

BOTH = synthetic_results(seeds=range(4)) + synthetic_results(semantics="notebook", seeds=range(4))
LETTER_OF = {written: letter for letter, written in LATEX.items()} | {"{}": ""}
LATEX_TOKEN = re.compile(r"\$\\?[\w<>|-]+\$|\\[a-z]+\{\}|\\[^a-z]|\{\}|[^\\{}$&#%_~^`<>|]")
HOSTILE = [
    "a_b & 50 % of #1 {x} $y$ ~ ^2",
    r"\input{/etc/passwd} \\ \end{tabular}",
    "[2cm] of * each",
    "* each",
    "x--y, ,, '' `` <<a>> |b|",
    "**bold** [link](http://a.bc) ![i](x) <b>&lt; @cite www.a.bc",
    "1. item \\",
    "λ ≤ 0.3 → ½ é",
    "Ж كثيف",
]


def read_latex(cell: str) -> str:
    """Return the text that one cell of LaTeX prints. Fails at whatever LaTeX would not print as a text."""
    tokens = LATEX_TOKEN.findall(cell)
    assert "".join(tokens) == cell
    return "".join(token if len(token) == 1 else LETTER_OF[token] for token in tokens)


def read_markdown(cell: str) -> str:
    """Return the text that one cell of Markdown shows."""
    assert not re.search(r"[*_`<>&$^~|#@]|\]\(|://|www\.", re.sub(r"\\(?:_|[^\w\s])", "", cell))
    return re.sub(r"\\(_|[^\w\s])", r"\1", cell)


def latex_rows(text: str) -> list[list[str]]:
    return [[read_latex(cell) for cell in line[:-3].split(" & ")] for line in text.split("\n") if line.endswith(r" \\")]


def markdown_rows(text: str) -> list[list[str]]:
    lines = [line[2:-2] for line in text.split("\n") if line.startswith("| ") and not line.startswith("| :--")]
    return [[read_markdown(cell) for cell in re.split(r" (?<!\\)\| ", line)] for line in lines]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d+\.?\d*", cell.replace("−", "-").replace(",", ""))]


def printed(results: list[dict], studies: list[dict]) -> list:
    return printed_summary(summary_table(results, studies), studies, results)


@pytest.mark.parametrize("ending", ["latex", "markdown"])
def test_files_have_the_numbers_of_the_csv_as_rounded(tmp_path, ending):
    files = {}
    for name, table in run_tables(BOTH, STUDIES).items():
        files |= {key: str(tmp_path / file) for key, file in files_of_table(name).items()}
        write_tables({name: table}, files)
    rows_of = {"latex": latex_rows, "markdown": markdown_rows}[ending]
    found = {
        name: [row for row in rows_of((tmp_path / files[f"{name}_{ending}"]).read_text()) if row[0] != "Run"]
        for name in ("summary", "differences")
    }
    order = [study["name"] for study in STUDIES]
    table = pandas.read_csv(files["summary"], dtype={"num_parameters": str})
    table = table.sort_values("study", key=lambda names: names.map(order.index), kind="stable")
    assert len(found["summary"]) == len(table) == 2 * (6 + 3 + 2)
    for cells, (_, row) in zip(found["summary"], table.iterrows(), strict=True):
        assert cells[:3] == [row["label"], row["semantics"], str(row["n"])]
        test = [row[f"test_accuracy_{part}"] for part in ("mean", "ci95_low", "ci95_high")]
        assert numbers(cells[3]) == pytest.approx(test, abs=0.0051)
        assert numbers(cells[4]) == pytest.approx([row["best_val_accuracy_mean"]], abs=0.0051)
        assert numbers(cells[5]) == pytest.approx([row["best_epoch_mean"]], abs=0.051)
        assert cells[6].replace(",", "") == row["num_parameters"]
    table = pandas.read_csv(files["differences"]).query("metric == 'test_accuracy'")
    table = table.sort_values("study", key=lambda names: names.map(order.index), kind="stable")
    labels = {(study["name"], member["run"]): member["label"] for study in STUDIES for member in study["members"]}
    assert len(found["differences"]) == len(table) == 2 * (5 + 2 + 1)
    for cells, (_, row) in zip(found["differences"], table.iterrows(), strict=True):
        reference = labels[row["study"], row["reference"]]
        assert cells[:4] == [row["label"], reference, row["semantics"], str(row["n_pairs"])]
        assert numbers(cells[4]) == pytest.approx(
            [row["mean_difference"], row["ci95_low"], row["ci95_high"]], abs=0.0051
        )
        if row["p_value"] < 0.001:
            assert cells[5] == "< 0.001"
        else:
            assert numbers(cells[5]) == pytest.approx([row["p_value"]], rel=0.051)


def test_latex_is_a_table_of_booktabs_per_study_with_a_rule_before_each_semantics():
    text = latex(printed(BOTH, STUDIES))
    assert text.startswith("% Needs \\usepackage{booktabs}.\n\n\\begin{table}\n")
    blocks = text.split("\n\n")[1:]
    assert re.findall(r"\\label\{(.*)\}", text) == [f"tab:summary_{study['name']}" for study in STUDIES]
    for block in blocks:
        environments = re.findall(r"\\(begin|end)\{(\w+)\}", block)
        assert environments == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
        assert re.findall(r"\\(\w+rule)\n", block) == ["toprule", "midrule", "midrule", "bottomrule"]
        (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", block)
        assert {len(row) for row in latex_rows(block)} == {len(columns)}
    (caption,) = re.findall(r"\\caption\{(.*)\}", blocks[0])
    assert read_latex(caption).startswith("7.1 Sparsity level, on digits. Test accuracy at the best epoch: mean [95 % ")
    assert "notebook: the best epoch is chosen on the test set" in caption


def test_a_caption_names_each_device_torch_and_commit_of_its_own_study():
    results = json.loads(json.dumps(synthetic_results()))
    versions = results[0]["trained_by"][0]["versions"] | {"torch": "2.0", "git_commit": "a" * 40, "git_dirty": True}
    for result in results:
        if result["run"] == "top_down":
            result["trained_by"].append({"from_epoch": 2, "device": {"name": "NVIDIA A100"}, "versions": versions})
    first, *_, last = printed(results, STUDIES)
    assert "A100" not in first.caption and ", torch " in first.caption
    assert "; NVIDIA A100, torch " in last.caption and "; 2.0, commit " in last.caption
    assert last.caption.endswith(f"; {'a' * 12} with uncommitted changes.")


def test_a_study_with_one_semantics_says_it_in_the_caption_and_others_keep_their_column():
    studies = [STUDIES[2] | {"semantics": ["paper"]}, STUDIES[1]]
    one, two = printed(BOTH, studies)
    assert "Semantics" not in one.header and len(one.groups) == 1
    assert one.caption.startswith("7.3 Top-down refinement, under paper semantics, on digits.")
    assert "Semantics" in two.header and len(two.groups) == 2


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_have_their_values_and_neither_an_interval_nor_p(seeds):
    results = synthetic_results(seeds=range(seeds))
    differences = printed_differences(differences_table(results, STUDIES), STUDIES, results)
    said = {1: "without an interval because n is below 3", 2: "both values, the lower one first, of two "}[seeds]
    for table in [*printed(results, STUDIES), *differences]:
        assert "p" not in table.header and said in table.caption
        column = [name for name in table.header if re.match("Test|Difference", name)]
        cells = [row[table.header.index(column[0])] for group in table.groups for row in group]
        number = r"[+−]?\d+\.\d\d"
        assert all(re.fullmatch(f"{number} and {number}" if seeds == 2 else number, cell) for cell in cells)


def test_a_difference_that_is_equal_in_all_pairs_has_no_p():
    results = synthetic_results(seeds=range(3))
    for result in results:
        result["test_accuracy"] = 30.0 + result["seed"] + (result["run"] == "top_down")
    (table,) = printed_differences(differences_table(results, STUDIES[2:]), STUDIES[2:], results)
    assert table.groups[0][0][-2:] == ["+1.00 [+1.00, +1.00]", "none"]
    assert "none where the difference is equal in all pairs. Measured on " in table.caption


def test_a_study_of_one_run_has_no_differences(tmp_path):
    alone = [STUDIES[0] | {"members": STUDIES[0]["members"][:1]}]
    table = differences_table(synthetic_results(), alone)
    write_csv(table, tmp_path / "differences.csv")
    assert printed_differences(table, alone, synthetic_results()) == []
    assert markdown([]).startswith("No run is compared with another one") and markdown([]).endswith(".\n")


def test_a_table_without_rows_is_its_caption_in_markdown():
    assert (
        markdown([PrintedTable("claims", "Two claims are left out.", ["Claim"], [[]])]) == "Two claims are left out.\n"
    )


def test_an_interval_of_an_accuracy_that_leaves_0_to_100_is_explained():
    results = synthetic_results(seeds=range(3))
    assert not any(OUTSIDE in table.caption for table in printed(results, STUDIES))
    for result in results:
        result["test_accuracy"] = 45.0 * result["seed"]
    assert all(OUTSIDE in table.caption for table in printed(results, STUDIES))


@pytest.mark.promise("escaped-texts")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text(name):
    study = STUDIES[2] | {
        "title": name,
        "members": [STUDIES[2]["members"][0] | {"label": name}, STUDIES[2]["members"][1]],
    }
    tables = printed(synthetic_results(), [study])
    for rows in (latex_rows(latex(tables)), markdown_rows(markdown(tables))):
        assert [row[0] for row in rows] == ["Run", name, "Without top-down"]
    (caption,) = re.findall(r"\\caption\{(.*)\}", latex(tables))
    assert name in read_latex(caption) and name in read_markdown(markdown(tables).split("\n")[0])


def test_a_row_does_not_begin_with_what_a_row_end_takes_as_its_argument():
    assert escape_latex("[2cm]") == "{}[2cm]" and escape_latex("* each") == "{}* each"
    assert escape_markdown("1. item") == "1\\. item" and escape_markdown("- item") == "\\- item"


def test_a_command_in_markdown_can_be_copied_from_the_file():
    command = "snakemake my_images --cores 4 --resources gpu=1"
    table = PrintedTable("claims_sources", "", ["Name", "Command"], [[["a_b", command], ["a", "none"]]])
    assert markdown([table]).splitlines()[-2:] == [rf"| a\_b | `{command}` |", "| a | none |"]


def test_comments_name_the_engine_and_the_font_that_letters_need():
    def comments(label: str) -> str:
        study = STUDIES[2] | {"members": [STUDIES[2]["members"][0] | {"label": label}, STUDIES[2]["members"][1]]}
        return latex(printed(synthetic_results(), [study])).partition("\n\n")[0]

    assert comments("λ ≤ 0.3") == r"% Needs \usepackage{booktabs}."
    assert comments("café").endswith(r"% pdfLaTeX needs \usepackage[T1]{fontenc} for some letters beyond ASCII.")
    assert comments("é Ж").endswith("% Needs LuaLaTeX or XeLaTeX, and a font that has Ж (U+0416).")
