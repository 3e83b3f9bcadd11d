"""`afmp predict` and `afmp.load`: answers as computed directly, in each format, and one sentence for each mistake."""

import copy
import csv
import io
import json
import pickle
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from encoded_images import png
from PIL import Image
from safetensors.torch import load_file
from saved_weights import CONFIGS, MEAN, NAMES, STD, save
from training_runs import small_config, train

import afmp
from afmp import cli
from afmp.data.dataset import load_dataset
from afmp.data.image_file import read_image
from afmp.errors import AfmpError
from afmp.model import prediction, trained
from afmp.model.sizes import build_model
from afmp.records import read_json


@pytest.fixture
def weights(tmp_path) -> Path:
    return save(tmp_path / "best.safetensors")


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of images of every kind, below each other, and of files that are none."""
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    (folder / "b").mkdir(parents=True)
    rgba = Image.fromarray(random.integers(0, 256, (40, 50, 4), np.uint8), "RGBA")
    rgba.save(folder / "z.png")
    rgba.convert("RGB").save(folder / "b" / "colour.JPG")
    rgba.convert("L").save(folder / "b" / "grey.png")
    rgba.convert("RGB").quantize(16).save(folder / "a.gif")
    (folder / "b" / "deep.png").write_bytes(png(random.integers(0, 2**16, (33, 20, 1)), bits=16, colour_type=0))
    (folder / "b" / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


IN_ORDER = ["a.gif", "b/colour.JPG", "b/deep.png", "b/grey.png", "z.png"]


def said(*words: str | Path, capsys) -> str:
    assert cli.main(["predict", *map(str, words)]) == 0
    return capsys.readouterr().out


def refusal(*words: str | Path, capsys) -> str:
    assert cli.main(["predict", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    *_, sentence = err.splitlines()
    assert out == "" and sentence.startswith("afmp predict: ") and sentence.isprintable()
    return sentence


def by_hand(path: Path, file: Path, semantics: str) -> list[float]:
    """The probabilities of one image, from the configuration and the stored tensors, without the metadata."""
    config = CONFIGS[semantics]
    model = build_model(config, semantics=semantics, num_classes=len(NAMES)).eval()
    model.load_state_dict(load_file(path))
    pixels = np.asarray(read_image(file, image_size=config.dataset.image_size), np.float64) / 255
    image = torch.tensor(((pixels - MEAN) / STD).transpose(2, 0, 1)[None], dtype=torch.float32)
    with torch.no_grad():
        logits = model(image[None])[0, 0] if semantics == "timm" else model(image)[0]
    exponentials = np.exp(logits.double().numpy())
    return (exponentials / exponentials.sum()).tolist()


@pytest.mark.parametrize("semantics", CONFIGS)
def test_classes_and_probabilities_are_those_of_a_direct_computation(tmp_path, images, capsys, monkeypatch, semantics):
    read, sizes = prediction.read_images, []
    monkeypatch.setattr(prediction, "MAX_IMAGES", 2)
    monkeypatch.setattr(
        prediction, "read_images", lambda paths, **size: sizes.append(len(paths)) or read(paths, **size)
    )
    weights = save(tmp_path / "best.safetensors", semantics)
    found = json.loads(said(weights, images, "--format", "json", capsys=capsys))
    assert sizes == [2, 2, 1]
    assert [each["file"] for each in found] == [str(images / name) for name in IN_ORDER]
    for each in found:
        expected = by_hand(weights, Path(each["file"]), semantics)
        assert [one["class"] for one in each["predictions"]] == [NAMES[index] for index in np.argsort(expected)[::-1]]
        values = [one["probability"] for one in each["predictions"]]
        assert values == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert len({str(each["predictions"]) for each in found}) == len(IN_ORDER)


def test_weights_of_a_training_answer_as_their_result_says(tmp_path, digits_file, capsys):
    (result,) = train(small_config(epochs=6, learning_rate=0.02), tmp_path, digits_file)
    data, folder = load_dataset(digits_file), tmp_path / "digits"
    folder.mkdir()
    for index, image in enumerate(data.test_images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index:03d}.png")
    words = (tmp_path / "seed_0/best.safetensors", folder, "--top", "1", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said(*words, capsys=capsys))))
    right = [row["class"] == data.class_names[label] for row, label in zip(rows, data.test_labels, strict=True)]
    # An image whose best classes are nearly equal may be answered otherwise in another batch.
    assert 100 * np.mean(right) == pytest.approx(result["test_accuracy"], abs=100 * 2 / len(right))
    assert result["test_accuracy"] > 30
    about = afmp.load(words[0]).about
    assert (about.run, about.semantics, about.seed, about.epoch) == ("tiny", "paper", 0, result["best_epoch"])
    assert about.dataset_hash == data.hash and about.class_names == data.class_names


def test_weights_of_the_notebook_answer_each_image_by_itself(tmp_path, images, capsys):
    saved = {
        name: save(tmp_path / f"{name}.safetensors", "notebook", config=small_config(), **changes)
        for name, changes in {"old": {}, "new": {"batch_size": 2}}.items()
    }
    sentence = refusal(saved["old"], images, capsys=capsys)
    assert "the training's batch size" in sentence and "`afmp predict` or `afmp explain` --batch-size" in sentence
    assert "--batch-size is 0: allowed" in refusal(saved["old"], images, "--batch-size", "0", capsys=capsys)
    together = json.loads(said(saved["new"], images, "--format", "json", capsys=capsys))
    for each in together:
        words = (saved["old"], each["file"], "--batch-size", "2", "--format", "json")
        assert json.loads(said(*words, capsys=capsys)) == [each]


@pytest.mark.promise("printable-names")
def test_the_formats_agree_and_names_are_printable(weights, images, tmp_path, capsys):
    words = (weights, images / "z.png", images / "b", "--top", "2")
    found = json.loads(said(*words, "--format", "json", capsys=capsys))
    expected = [
        (each["file"], rank, one["class"], one["probability"])
        for each in found
        for rank, one in enumerate(each["predictions"], start=1)
    ]
    assert [row[0] for row in expected[::2]] == [str(images / name) for name in ("z.png", *IN_ORDER[1:4])]
    assert [row[1] for row in expected] == [1, 2] * 4
    shown = {name: name.replace("\n\x1b", r"\n\x1b") for name in NAMES}
    rows = list(csv.reader(io.StringIO(text := said(*words, "--format", "csv", capsys=capsys))))
    assert rows[0] == ["file", "rank", "class", "probability"] and text.count("\n") == len(rows)
    assert [(row[0], int(row[1]), row[2], float(row[3])) for row in rows[1:]] == [
        (file, rank, shown[name], probability) for file, rank, name, probability in expected
    ]
    lines = said(*words, capsys=capsys).splitlines()
    assert len(set(map(len, lines))) == 1 and all(map(str.isprintable, lines))
    for line, (file, rank, name, probability) in zip(lines, expected, strict=True):
        assert line.split("  ")[0].strip() == (file if rank == 1 else "")
        assert re.search(rf"  {re.escape(shown[name])} +{100 * probability:.2f} %$", line)


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_the_output_file_has_what_the_terminal_shows(weights, images, tmp_path, capsys, format_):
    words = (weights, images, "--format", format_)
    shown = said(*words, capsys=capsys)
    assert said(*words, "--output", tmp_path / "out", capsys=capsys) == ""
    assert (tmp_path / "out").read_text() == shown != ""
    if format_ == "json":
        assert len(read_json(tmp_path / "out")) == len(IN_ORDER)


def test_top_is_at_most_the_number_of_classes(weights, images, capsys):
    for top, number in (("1", 1), ("3", 3), ("100", 3)):
        (found,) = json.loads(said(weights, images / "z.png", "--top", top, "--format", "json", capsys=capsys))
        assert len(found["predictions"]) == number


def test_files_in_a_folder_that_are_no_images_are_counted(weights, images, capsys):
    assert cli.main(["predict", str(weights), str(images)]) == 0
    assert f"{images}: files left out, because they are no images: 1 (images are .bmp, " in capsys.readouterr().err


@pytest.mark.promise("print-colours-and-rotation")
def test_an_image_that_other_programs_show_otherwise_is_named(weights, tmp_path, capsys):
    image = Image.new("RGBA", (9, 9))
    image.getexif()[0x0112] = 6
    image.save(tmp_path / "odd.png", exif=image.getexif())
    for words in (("predict",), ("explain", "--output", str(tmp_path / "out.png"))):
        assert cli.main([words[0], str(weights), str(tmp_path / "odd.png"), *words[1:]]) == 0
        err = capsys.readouterr().err
        assert f"rotation flag, which is not applied: 1, such as {tmp_path}/odd.png" in err
        assert f"transparent pixels, which become black: 1, such as {tmp_path}/odd.png" in err


def damaged(images: Path) -> Path:
    path = images / "b" / "grey.png"
    path.write_bytes(path.read_bytes()[:60])
    return images


def empty(images: Path) -> Path:
    (images / "empty" / "inner").mkdir(parents=True)
    (images / "empty" / "notes.txt").write_text("no image")
    return images / "empty"


def looped(images: Path) -> Path:
    (images / "b" / "loop").symlink_to(images)
    return images


REFUSED = {
    "damaged": (damaged, r"b/grey\.png: cannot be read as an image"),
    "empty": (empty, r"empty: there are no images in this folder or below it \(\.bmp, "),
    "missing": (lambda images: images / "none.png", r"none\.png: no such file"),
    "no image": (lambda images: images / "b" / "notes.txt", r"notes\.txt: cannot be read as an image \(no BMP, GIF"),
    "a loop": (looped, r"b/loop: is the same folder as .*photos; remove the link"),
}


@pytest.mark.promise("refused-image")
@pytest.mark.parametrize("case", REFUSED)
def test_an_image_that_cannot_be_read_is_one_sentence_and_nothing_is_written(weights, images, tmp_path, capsys, case):
    make, message = REFUSED[case]
    output = tmp_path / "out.json"
    assert re.search(message, refusal(weights, make(images), "--output", output, capsys=capsys))
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top", "0"), "--top is 0: allowed is a whole number, 1 or more"),
        (("--output", "/proc/no/out.csv"), "/proc/no/out.csv: cannot be written"),
    ],
)
def test_a_wrong_option_is_one_sentence(weights, images, capsys, options, message):
    assert message in refusal(weights, images, *options, capsys=capsys)


@pytest.mark.parametrize("options", [("predict",), ("explain", "--output", "out.png")])
def test_weights_and_image_in_the_wrong_order(weights, images, capsys, options):
    assert cli.main([options[0], str(images / "z.png"), str(weights), *options[1:]]) == 2
    assert "z.png: an image, where weights belong; give the weights first" in capsys.readouterr().err


def test_probabilities_that_are_not_finite_are_refused(tmp_path, images, capsys):
    weights = save(tmp_path / "large.safetensors", "timm", scale=1e30)
    assert f"{images / 'z.png'}: its probabilities are not finite" in refusal(weights, images / "z.png", capsys=capsys)


@pytest.mark.parametrize("semantics", CONFIGS)
def test_a_loaded_model_says_what_its_file_says_and_so_do_its_copies(tmp_path, semantics):
    model = afmp.load(save(tmp_path / "best.safetensors", semantics))
    size = CONFIGS[semantics].dataset.image_size
    expected = trained.About("tiny", semantics, 3, 2, "abc", NAMES, size, MEAN, STD)
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert each.about == expected and not each.training
        assert all(torch.equal(own, tensor) for own, tensor in zip(each.parameters(), model.parameters(), strict=True))
    with pytest.raises(FrozenInstanceError):
        model.about.seed = 4


def test_a_release_is_loaded_by_its_name_from_anywhere(tmp_path, images, monkeypatch, capsys):
    (tmp_path / "releases").mkdir()
    monkeypatch.setattr(trained, "RELEASES", tmp_path / "releases")
    for name in ("tiny_0.3", "other"):
        save(tmp_path / f"releases/{name}.safetensors")
    monkeypatch.chdir(images)
    path = tmp_path / "releases/tiny_0.3.safetensors"
    assert afmp.load("tiny_0.3").about == afmp.load(path).about == afmp.load(str(path)).about
    assert said("tiny_0.3", "z.png", capsys=capsys) == said(path, "z.png", capsys=capsys)
    assert refusal("tiny_0.4", "z.png", capsys=capsys).endswith(
        "'tiny_0.4' is no release: the releases are other, tiny_0.3; the path of a .safetensors file is allowed too."
    )
    (tmp_path / "releases").rename(tmp_path / "moved")
    with pytest.raises(AfmpError, match=r"'tiny_0\.3' is no release: this package contains no releases yet; the path"):
        afmp.load("tiny_0.3")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.safetensors", r"none\.safetensors: no such file"),
        ("photos/none", r"photos/none: no such file"),
        ("photos", r"photos: is a folder, where a file of weights belongs; give the \.safetensors in it"),
        ("photos/a.gif", r"a\.gif: an image, where weights belong; give the weights first, then the images"),
    ],
)
def test_a_path_that_is_no_file_of_weights_is_refused_as_a_path(images, monkeypatch, path, message):
    monkeypatch.chdir(images.parent)
    for given in (path, Path(path), str(images.parent / path)):
        with pytest.raises(AfmpError, match=message):
            afmp.load(given)


@pytest.mark.promise("foreign-weights")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": None}, "about/mean is None; allowed: three numbers between 0 and 1; get or train it again"),
        ({"std": [0.1, 0.2, 0.0]}, r"about/std is \[0.1, 0.2, 0.0\]; allowed: three numbers between 0 and 1, not 0"),
        ({"std": [0.1, 0.2, float("nan")]}, r"about/std is \[0.1, 0.2, nan\]; "),
        ({"seed": "x" * 10**6}, "about/seed is 'x+; allowed: a whole number"),
        ({"dataset": "abc"}, "about/dataset/hash is None; allowed: a text"),
    ],
)
def test_metadata_that_lack_what_a_prediction_needs_are_refused_in_one_sentence(tmp_path, changes, message):
    path = save(tmp_path / "odd.safetensors", **changes)
    with pytest.raises(AfmpError, match=f"^{path}: in its metadata, {message}") as refused:
        afmp.load(path)
    assert len(str(refused.value)) < 600
