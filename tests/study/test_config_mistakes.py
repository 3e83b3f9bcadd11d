"""Mistakes in config.yaml that small random changes of the shipped file do not produce: each refused in one line."""

import copy

import pytest
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.study.study import read_study, resolve_study


def add_run(**line):
    return lambda config: config["studies"]["regularisation"]["runs"].append({"sparsity": 0.9} | line)


def put(place: str, **changes):
    def change(config):
        (config["studies"]["regularisation"] if place == "study" else config[place]).update(changes)

    return change


FOUND = {
    "a line end in a name": (add_run(run="x\n"), r"runs/3/run: found 'x\\n'; allowed: letters"),
    "a name that Snakemake takes for endless": (add_run(run="ab" * 20), "runs/3/run: .* 20 times the same"),
    "names apart by case": (add_run(run="DENSE"), "runs/3/run: 'DENSE' differs from the run 'dense' by case alone"),
    "two runs of one label": (
        add_run(run="x", label="λ = 1e-3"),
        "run 'x', .*runs/3/label: 'λ = 1e-3' labels two runs",
    ),
    "mathematics": (put("study", title=r"$\nothing$"), "title: found .* without [$] and braces"),
    "a wildcard": (put("study", section="{run}"), "section: found '{run}'; allowed: one line of text without"),
    "half a character": (add_run(run="x", label="\ud800"), r"runs/3/label: found '\\ud800'; allowed: one line"),
    "two lines": (put("study", title="a\nb"), r"title: found 'a\\nb'; allowed: one line"),
    "a figure no disk can name": (put("study", figure="x" * 300), "figure: found 'x+[.]{3}; allowed: .* at most 80"),
    "a key of control characters": (put("model", **{"\x1b[1m": 1}), r"model/'\\x1b\[1m': unknown key with value 1"),
    "a folder no disk can name": (
        put("dataset", source="folder", path="x" * 300),
        "dataset/path: 'x+.* contains no train",
    ),
    "a folder of no name": (put("dataset", source="folder", path=""), "dataset/path: found ''; allowed: text"),
    "digits of another script": (
        put("training", epochs="١e١"),
        "training/epochs: found '١e١'; allowed: a whole number",
    ),
}


@pytest.mark.promise("mistake-ends-in-one-sentence")
@pytest.mark.parametrize("case", FOUND)
def test_a_mistake_is_refused_in_one_line(case):
    change, message = FOUND[case]
    config = copy.deepcopy(SHIPPED)
    change(config)
    with pytest.raises(AfmpError, match=f"^config: .*{message}") as caught:
        resolve_study(config)
    assert complains(caught.value, of="config: ")


YAML_OF_NO_USE = {
    "many values by few aliases": (
        "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else 1}]\n" for i in range(8)),
        "more than 100,000 values",
    ),
    "nested without end": ("a: " + "[" * 5000, "nested too deeply"),
    "a number of 5,000 digits": (f"seeds: [0x{'f' * 5000}]", r"line 1: seeds/0: found 5,002 characters"),
    "minutes and seconds": ("epochs: 1:30", "line 1: epochs: found 1:30, which YAML reads as another number"),
    "a key that is a list": ("? [a]\n: 1", "line 1: a key is a sequence; allowed: text"),
    "an object": ("a: !!python/object/apply:os.getcwd []", r"not a YAML file: line 1, column 4: could not determine"),
    "two documents": ("a: 1\n---\nb: 1", "not a YAML file: line 2, column 1: but found another document"),
    "nothing": ("", "found None; allowed: a mapping"),
}


@pytest.mark.promise("mistake-ends-in-one-sentence")
@pytest.mark.parametrize("case", YAML_OF_NO_USE)
def test_ambiguous_yaml_is_refused_with_its_line(tmp_path, case):
    text, message = YAML_OF_NO_USE[case]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(AfmpError, match=message) as caught:
        read_study(path)
    assert complains(caught.value, of=f"{path}: ")


def test_a_configuration_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_bytes(SHIPPED["dataset"]["source"].encode("utf-16"))
    for path, message in (
        (tmp_path / "config.yaml", "not a YAML file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "x", "no such"),
    ):
        with pytest.raises(AfmpError, match=message) as caught:
            read_study(path)
        assert complains(caught.value, of=f"{path}: ")
