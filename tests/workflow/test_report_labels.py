"""Labels of Snakemake's report, made of the shipped study: its page sorts them by their text."""

import re
from types import SimpleNamespace

import pytest
from conftest import PROJECT

from afmp.study.config_file import read_config
from afmp.study.study import resolve_study


def labels_of(**changed) -> dict:
    """Return the names that rules/labels.smk defines for the shipped study, changed at the top."""
    path = PROJECT / "rules/labels.smk"
    names = {"STUDY": resolve_study(read_config(PROJECT / "config.yaml") | changed), "re": re}
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), names)
    return names


@pytest.fixture(scope="module")
def labels() -> dict:
    # The order of a configuration does not matter.
    return labels_of(semantics=["notebook", "paper"])


def test_paper_stands_before_notebook_and_refined(labels):
    make = labels["study_labels"](labels["STUDY"].studies[0])
    items = [make(SimpleNamespace(semantics=semantics)) for semantics in ("notebook", "refined", "paper")]
    assert [next(iter(item)) for item in items] == ["semantics"] * 3  # items are sorted by the first label
    assert [name.strip() for name in sorted(item["semantics"] for item in items)] == ["paper", "notebook", "refined"]
    groups = [
        labels["diagnostics_group"](SimpleNamespace(semantics=semantics, run=run))
        for semantics, run in reversed(labels["STUDY"].trainings)
        if semantics != "timm"
    ]
    of = [group.strip().split(", ")[0] for group in sorted(groups)]
    assert list(dict.fromkeys(of)) == ["paper", "notebook", "refined"] and of.count("paper") == of.count("notebook")


def test_the_last_epoch_comes_first(labels):
    epochs = tuple(range(10, 101, 10))
    wildcards = SimpleNamespace(semantics="paper", run="dense")
    items = [labels["diagnostics_labels"](epoch, epochs)(wildcards) for epoch in epochs]
    assert [int(epoch) for epoch in sorted(item["epoch"] for item in items)] == list(reversed(epochs))


def test_categories_are_in_reading_order_and_one_for_each_figure(labels):
    categories = labels["CATEGORIES"]
    assert sorted(map(labels["in_menu"], reversed(categories))) == list(map(labels["in_menu"], categories))
    studies = read_config(PROJECT / "config.yaml")["studies"]
    for study in studies.values():
        study |= {"section": "A", "title": "Same title"}
    alike = labels_of(studies=studies)["CATEGORIES"]
    assert len(set(alike)) == len(categories) and "A Same title (window)" in alike
