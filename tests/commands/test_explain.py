"""`afmp explain`: the picture and the words for one image, and one sentence for each mistake."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from saved_weights import NAMES, save
from training_runs import small_config

from afmp import cli


@pytest.fixture
def photo(tmp_path) -> Path:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (40, 50, 4), np.uint8), "RGBA").save(tmp_path / "photo.webp", lossless=True)
    return tmp_path / "photo.webp"


def said(*words: str | Path, capsys) -> list[str]:
    assert cli.main(["explain", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.promise("printable-names")
def test_the_picture_is_written_and_the_words_agree_with_predict(tmp_path, photo, capsys):
    weights, picture = save(tmp_path / "best.safetensors"), tmp_path / "picture.png"
    lines = said(weights, photo, "--output", picture, capsys=capsys)
    assert lines[0].split() == ["class", "probability", "without", "messages"]
    assert lines[-1] == str(picture) and all(map(str.isprintable, lines))
    assert cli.main(["predict", str(weights), str(photo), "--top", "1"]) == 0
    percent = capsys.readouterr().out.split()[-2]
    assert f" {float(percent):.1f} %" in lines[1] and len(lines) == 1 + len(NAMES) + 2 + 1
    assert lines[1 + len(NAMES)].startswith("layer 0: 32 of 66 edges; strongest ")
    with Image.open(picture) as image:
        assert image.format == "PNG" and min(image.size) > 800


def test_older_weights_of_the_notebook_need_the_batch_size_of_their_training(tmp_path, photo, capsys):
    weights, picture = save(tmp_path / "best.safetensors", "notebook", config=small_config()), tmp_path / "out.png"
    words = ("explain", str(weights), str(photo), "--output", str(picture))
    assert cli.main(list(words)) == 2
    assert "the training's batch size" in (sentence := capsys.readouterr().err) and "--batch-size" in sentence
    assert not picture.exists()
    assert "layer 1: 33 of 33 edges" in "\n".join(said(*words[1:], "--batch-size", "64", capsys=capsys))


def damaged(photo: Path) -> Path:
    photo.write_bytes(photo.read_bytes()[:60])
    return photo


def save_rival(path: Path) -> Path:
    """Save what a file of a model of timm says of itself, which is all that may be read of it."""
    save_file({"network.head.bias": torch.zeros(3)}, path, {"about": json.dumps({"semantics": "timm"})})
    return path


REFUSED = {
    "damaged": (damaged, save, (), "photo.webp: cannot be read as an image"),
    "missing": (lambda photo: photo.with_name("none.png"), save, (), "none.png: no such file"),
    "a folder": (lambda photo: photo.parent, save, (), "is a folder; give one image"),
    "a rival": (
        lambda photo: photo,
        save_rival,
        (),
        "best.safetensors: weights of a model of timm, which has no edges",
    ),
    "batch size 0": (lambda photo: photo, save, ("--batch-size", "0"), "--batch-size is 0: allowed is a whole"),
    "another ending": (lambda photo: photo, save, ("--output", "x.jpg"), "x.jpg': the picture is a PNG; give a"),
}


@pytest.mark.promise("refused-image")
@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_sentence_and_nothing_is_written(tmp_path, photo, capsys, case):
    made, save_weights, options, message = REFUSED[case]
    weights, picture = save_weights(tmp_path / "best.safetensors"), tmp_path / "out.png"
    assert cli.main(["explain", str(weights), str(made(photo)), "--output", str(picture), *options]) == 2
    out, err = capsys.readouterr()
    *_, sentence = err.splitlines()
    assert out == "" and sentence.startswith("afmp explain: ") and sentence.isprintable() and message in sentence
    assert not picture.exists()
