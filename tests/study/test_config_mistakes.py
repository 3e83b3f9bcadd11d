"""Mistakes in config.yaml that small random changes of the shipped file do not produce: each refused in one line."""

import copy
import json
import os
from pathlib import Path

import pytest
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.study.config_file import read_config
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
    "half a character": (add_run(run="x", label="\ud800"), r"runs/3/label: found '\\ud800'; allowed: one line"),
    "two lines": (put("study", title="a\nb"), r"title: found 'a\\nb'; allowed: one line"),
    "a figure no disk can name": (put("study", figure="x" * 300), "figure: found 'x+[.]{3}; allowed: .* at most 80"),
    "a key of control characters": (put("model", **{"\x1b[1m": 1}), r"model/'\\x1b\[1m': unknown key with value 1"),
    "a folder no disk can name": (
        put("dataset", source="folder", path="x" * 300),
        "dataset/path: 'x+.* no such folder; give",
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


@pytest.mark.parametrize(
    ("folders", "allowed"),
    [
        ("train/a test/a", True),
        ("a b", True),
        ("train/a a", False),
        ("test/a a", False),
        (".git", False),
    ],
)
def test_an_image_folder_has_splits_or_classes(tmp_path, folders, allowed):
    for folder in folders.split():
        (tmp_path / folder).mkdir(parents=True)
    config = SHIPPED | {"dataset": {"source": "folder", "path": str(tmp_path), "image_size": 32}}
    if allowed:
        assert resolve_study(config).dataset.path == str(tmp_path)
    else:
        with pytest.raises(AfmpError, match=r"dataset/path: .* contains no train/<class>/ .* nor folders of classes"):
            resolve_study(config)


YAML_OF_NO_USE = {
    "many values by few aliases": (
        "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else 1}]\n" for i in range(8)),
        "more than 100,000 values",
    ),
    "nested without end": ("a: " + "[" * 5000, "nested too deeply"),
    "a number of 5,000 digits": (f"seeds: [0x{'f' * 5000}]", r"line 1: seeds/0: found 5,002 characters"),
    "minutes and seconds": ("epochs: 1:30", "line 1: epochs: found 1:30, which YAML reads as another number"),
    "a key that is a list": ("? [a]\n: 1", "line 1: a key is a sequence; allowed: text"),
    "an object": ("a: !!python/object/apply:os.getcwd []", r"line 1: a: found the tag .*os.getcwd; allowed: lists"),
    "a tuple": ("a: 1\nb: !!python/tuple [1]", r"line 2: b: found the tag .*python/tuple; allowed: lists"),
    "a set": ("seeds: !!set {1, 2}", "line 1: seeds: found the tag .*:set; allowed: lists"),
    "bytes": ("a: !!binary YQ==", "line 1: a: found 'YQ==', which YAML cannot read .its tag is .*:binary"),
    "a merge key": ("a: &a {b: 1}\nc: {<<: *a}", "line 2: a key: found '<<', which YAML cannot read"),
    "a mapping that contains itself": ("model: &m {a: 1,\n  more: *m}", "line 1: model/more/.*: a value that contains"),
    "a list that contains itself": ("seeds: &s\n  - [*s]", "line 2: seeds/0/.*: a value that contains itself"),
    "a thousand levels": ("a:\n  - " + "- " * 1000, "line 2, column 4[0-9]: .*nested too deeply; allowed: 20 levels"),
    "code": ("a: 1\n__use_yte__: true", "__use_yte__: Snakemake would run the code"),
    "an escape beyond the last character": (r'b: "\U00110000"', "line 1, column 4: found an escape .* of no character"),
    "an escape beyond any number": (r'["\UFFFFFFFF"]', "line 1, column 2: found an escape .* of no character"),
    "a tag without end": ("a: !" + "x" * 100_000 + " y", r"line 1: a: found 'y', .*its tag is !x{100,150}[.]{3}[)]"),
    "an alias without end": ("a: *" + "x" * 100_000, r"line 1, column 4: found undefined alias 'x{100,150}[.]{3}[.]$"),
    "two documents": ("a: 1\n---\nb: 1", "not a YAML file: line 2, column 1: but found another document"),
    "nothing": ("", "found None; allowed: a mapping"),
}


@pytest.mark.promise("mistake-ends-in-one-sentence", "hostile-configuration")
@pytest.mark.parametrize("case", YAML_OF_NO_USE)
def test_ambiguous_yaml_is_refused_with_its_line(tmp_path, case):
    text, message = YAML_OF_NO_USE[case]
    assert_refused(tmp_path / "config.yaml", text.encode(), message)


def assert_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(AfmpError, match=message) as caught:
        read_study(path)
    assert complains(caught.value, of=f"{path}: ")


BYTES_OF_NO_USE = {
    "UTF-16": ("source: digits".encode("utf-16"), "line 1: found the byte 0xFF, which is not UTF-8"),
    "Latin-1": ("a: 1\ntitle: Größe".encode("latin-1"), "line 2: found the byte 0xF6, which is not UTF-8"),
    "the code page of Windows": ("a: 1\n\ntitle: ‘x’".encode("cp1252"), "line 3: found the byte 0x91, which is not"),
    "a zero byte": (b"a: 1\nb: 2\0", r"not a YAML file: line 2: found the character '\\x00'; remove it"),
    "a bell": (b"a: \x07", r"not a YAML file: line 1: found the character '\\x07'; remove it"),
    "blanks": (b"a: 1\n" + b" " * 300_000, "refused unread: it has 300,005 bytes, and at most 250,000 are read"),
    "a million seeds": (
        f"seeds: {list(range(1_000_000))}".encode(),
        "refused unread: it has 7,888,897 bytes, and at most 250,000",
    ),
    "many runs": (b"- {run: x}\n" * 30_000, "refused unread: it has 330,000 bytes, and at most 250,000"),
    "many values": (b"a: [" + b"1," * 120_000 + b"]", "line 1: a/.*: the file has more than 100,000 values"),
}


@pytest.mark.promise("hostile-configuration")
@pytest.mark.parametrize("case", BYTES_OF_NO_USE)
def test_bytes_that_are_no_configuration_are_refused_with_their_line(tmp_path, case):
    assert_refused(tmp_path / "config.yaml", *BYTES_OF_NO_USE[case])


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "x", "no such"), (tmp_path / "pipe", "is a pipe")):
        with pytest.raises(AfmpError, match=message) as caught:
            read_study(path)
        assert complains(caught.value, of=f"{path}: ")


def test_a_mark_at_the_start_and_line_ends_of_windows_change_nothing(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  - 2\r\n")
    assert read_config(path) == {"a": 1, "b": [2]}


def test_json_is_read_as_snakemake_reads_it(tmp_path):
    path = tmp_path / "config.json"
    content = {"label": "😀 é", "rate": 1e-05, "flag": True, "none": None}
    path.write_text(json.dumps(content))
    assert read_config(path) == content
