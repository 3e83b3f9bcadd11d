"""The accuracies of a whole study in plain text, and the command that prints them."""

from conftest import PROJECT

from afmp import cli

ARCHIVE = PROJECT / "archive/2026-11-24-h200"


def printed(folder, capsys, *, status=0):
    assert cli.main(["accuracies", str(folder)]) == status
    return capsys.readouterr()


def test_every_run_of_an_archive_stands_under_its_study_and_semantics(capsys):
    head, *lines = printed(ARCHIVE, capsys).out.splitlines()
    assert head.split() == ["paper", "notebook"]
    assert "  Sparse 0.6         34.23 [33.74, 34.72]  35.82 [35.25, 36.40]" in lines
    assert [line for line in lines[:-2] if not line.startswith(" ")] == [
        "sparsity_level",
        "regularisation",
        "top_down_refinement",
    ]
    assert len(lines) == 3 + 6 + 3 + 2 + 2 and "over 5 random seeds. Dataset: cifar100." in lines[-1]


def test_few_seeds_have_no_interval_and_a_run_of_one_semantics_leaves_the_others_empty(capsys, tmp_path):
    table = tmp_path / "aggregate/summary.csv"
    table.parent.mkdir()
    columns = "semantics,study,run,label,n,dataset,test_accuracy_mean,test_accuracy_std,"
    columns += "test_accuracy_ci95_low,test_accuracy_ci95_high\n"
    table.write_text(columns + "paper,one,a,A,2,digits,50.5,0.7071,,\nrefined,two,b,B,1,digits,60,,,\n")
    lines = printed(tmp_path, capsys).out.splitlines()
    assert [line.split() for line in lines[:5]] == [
        ["paper", "refined"], ["one"], ["A", "50.00", "and", "51.00"], ["two"], ["B", "60.00"],
    ]  # fmt: skip
    assert lines[4].endswith("  60.00") and lines[4].index("60.00") > lines[2].index("50.00")
    assert "the value of each random seed" in lines[-1]


def test_a_table_that_is_none_is_one_sentence(capsys, tmp_path):
    table = tmp_path / "aggregate/summary.csv"
    assert "summary.csv: no such file" in printed(tmp_path, capsys, status=2).err
    table.parent.mkdir()
    for content, words in (("", "not a table"), ("a,b\n1,2\n", "the column study is missing"), ("\0", "missing")):
        table.write_text(content)
        err = printed(tmp_path, capsys, status=2).err
        assert words in err and err.count("\n") == 1
