"""Records: files that were edited or written by another version are refused by name, with the key and what to do."""

import json

import pytest
from synthetic_results import synthetic_diagnostics, synthetic_point, synthetic_result, synthetic_scalability

from afmp import records
from afmp.errors import AfmpError

MODEL = {"model": "afmp_small", "description": "AFMP-Small", "resolution": 224, "num_parameters": 6_000_000}
CONTENTS = {
    "result": synthetic_result("dense"),
    "diagnostics": synthetic_diagnostics(),
    "scalability": synthetic_scalability([synthetic_point("afmp_small", 64)]),
    "parameters": {"format_version": 1, "num_classes": 100, "models": [MODEL]},
    "manifest": {"format_version": 1, "files": {"study.json": {"sha256": "0" * 64, "bytes": 3}}},
}


def read(kind: str, path):
    return getattr(records, f"read_{kind}")(path)


@pytest.mark.promise("other-format")
@pytest.mark.parametrize("kind", CONTENTS)
def test_one_format_is_read_and_every_other_is_refused_with_advice(tmp_path, kind):
    path = tmp_path / f"{kind}.json"
    getattr(records, f"write_{kind}")(path, CONTENTS[kind])
    assert read(kind, path) == CONTENTS[kind]
    path.write_text(json.dumps(CONTENTS[kind]))
    with pytest.raises(AfmpError, match="does not match its own checksum"):  # a missing checksum does not match either
        read(kind, path)
    readable = CONTENTS[kind]["format_version"]
    for found in (0, readable + 1, "1", None):
        path.write_text(json.dumps(CONTENTS[kind] | {"format_version": found}))
        with pytest.raises(AfmpError) as caught:
            read(kind, path)
        assert str(caught.value) == (
            f"{path}: {kind} file of format {found!r}, but this AFMP reads format {readable} alone. "
            "Delete it so that it is made again, or read it with the release of AFMP that wrote it."
        )
    old = {key: value for key, value in CONTENTS[kind].items() if key != "format_version"}
    path.write_text(json.dumps(old))
    with pytest.raises(AfmpError, match=f"{kind}.json: {kind} file of format None"):
        read(kind, path)


@pytest.mark.promise("other-format")
@pytest.mark.parametrize("kind", CONTENTS)
def test_a_file_of_another_format_is_not_written(tmp_path, kind):
    with pytest.raises(AfmpError, match="of format 7"):
        getattr(records, f"write_{kind}")(tmp_path / "file.json", CONTENTS[kind] | {"format_version": 7})
    assert not list(tmp_path.iterdir())


def as_text(**changes) -> str:
    return json.dumps(CONTENTS["result"] | changes)


HISTORY = CONTENTS["result"]["training_history"]
EDITS = {
    "a typing error": (as_text()[:-1] + ",}", "not a JSON file .*line 1 column"),
    "cut off": (as_text()[:-40], "not a JSON file"),
    "empty": ("", "not a JSON file"),
    "not a number": (as_text(test_accuracy=float("nan")), "not a JSON file .NaN is no finite number"),
    "infinite": (
        as_text().replace('"best_epoch": ', '"best_epoch": 1e999, "x": '),
        "not a JSON file .1e999 is no finite number",
    ),
    "endless": ("[" * 100_000, "not a JSON file"),
    "a list": ("[]", r"not a valid result file: the file as a whole: \[\]"),
    "an unknown key": (as_text(note="rerun"), "not a valid result file: the file as a whole: .*'note'"),
    "out of range": (as_text(test_accuracy=134.1), "not a valid result file: test_accuracy: 134.1"),
    "text for a number": (as_text(seed="0"), "not a valid result file: seed: '0'"),
    "in the depth": (
        as_text(dataset=CONTENTS["result"]["dataset"] | {"hash": "abc"}),
        "not a valid result file: dataset/hash: 'abc'",
    ),
    "an epoch lost": (
        as_text(training_history=HISTORY | {"val_acc": HISTORY["val_acc"][1:]}),
        "not a valid result file: training_history: its lists have different lengths",
    ),
}


@pytest.mark.promise("damaged-result")
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_result_is_refused_by_name(tmp_path, edit):
    text, message = EDITS[edit]
    path = tmp_path / "results_dense.json"
    path.write_text(text)
    with pytest.raises(AfmpError, match=rf"results_dense\.json: {message}") as caught:
        records.read_result(path)
    assert "elete it so that it is made again" in str(caught.value)
