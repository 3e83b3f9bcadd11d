"""Models of a training of one's own: saved, loaded, used by the commands; and what is said of files that do not fit."""

import re

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from conftest import PROJECT
from PIL import Image
from timm.data import create_transform, resolve_model_data_config

import afmp
import afmp.timm
from afmp import AFMP, cli
from afmp.data.image_file import read_image
from afmp.errors import AfmpError
from afmp.model.description import builder_call
from afmp.model.prediction import predict_files
from afmp.model.weights import read_about

NAMES = ("ant", "bee", "cat")
SCALE = {"mean": (0.2, 0.4, 0.6), "std": (0.3, 0.2, 0.1)}
SIZE = {"num_layers": 2, "d_model": 4, "num_classes": 3, "img_size": 16, "patch_size": 4}
RELEASES = ("afmp_refined_tiny_cifar100", "afmp_refined_small_cifar100")
KINDS = {
    "paper": {},
    "window": {"scaffold": "window", "window_size": 2, "lambda_sparse": 0.5},
    "top down": {"semantics": "notebook", "scaffold": "window", "window_size": 3, "batch_size": 1},
    "refined": {"semantics": "refined", "edges_per_node": 2, "use_errors": False, "use_directions": False},
    "dense": {"semantics": "refined", "is_sparse": False, "routing": "none", "messages": False},
}


def trained(**changes) -> AFMP:
    torch.manual_seed(0)
    return AFMP(**SIZE | changes).eval()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_as_it_was(tmp_path, kind):
    model, path, images = trained(**KINDS[kind]), tmp_path / "mine.safetensors", torch.rand(2, 3, 16, 16)
    afmp.save(model, path, class_names=NAMES, mean=torch.tensor(SCALE["mean"]).double(), std=np.array(SCALE["std"]))
    loaded = afmp.load(path)
    for found, expected in zip(loaded.forward_train(images), model.forward_train(images), strict=True):
        assert torch.equal(found, expected)
    assert (
        loaded.about.class_names == NAMES and loaded.about.run is loaded.about.seed is loaded.about.dataset_hash is None
    )
    assert loaded.about.mean == pytest.approx(SCALE["mean"]) and loaded.about.image_size == 16
    # The call that messages name builds the model of the file, its graph included.
    built = eval(builder_call(read_about(path)), {"afmp": afmp})
    assert afmp.load_weights(built, path) == loaded.about
    assert torch.equal(built.eval().forward_train(images)[1], model.forward_train(images)[1])


@pytest.mark.long
def test_a_model_that_was_fine_tuned_is_saved_with_its_own_graph_and_used_by_the_commands(tmp_path, photo, capsys):
    model = afmp.afmp_refined_tiny(num_classes=3, img_size=64)
    about = afmp.load_weights(model, RELEASES[0], head=False, graph=False)
    assert about == afmp.load(RELEASES[0]).about
    path = tmp_path / "mine.safetensors"
    afmp.save(model.half(), path, class_names=NAMES, mean=about.mean, std=about.std)
    loaded = afmp.load(path)
    assert loaded.num_patches == 256 and next(loaded.parameters()).dtype == torch.float32
    assert cli.main(["predict", str(path), str(photo), "--top", "1"]) == 0
    assert cli.main(["explain", str(path), str(photo), "--output", str(tmp_path / "out.png")]) == 0
    ((_, classes),) = predict_files(loaded, [photo], top=3)
    with torch.no_grad():
        logits = loaded(loaded.about.prepare_image(str(photo))[None])[0]
    assert [value for _, value in classes] == pytest.approx(sorted(logits.softmax(0).tolist(), reverse=True), abs=1e-6)
    assert capsys.readouterr().out.split()[1] == classes[0][0]


def test_images_are_prepared_as_stated_and_as_timm_prepares_them(photo):
    about = afmp.load(RELEASES[0]).about
    found = about.prepare_image(photo, image_size=16)
    pixels = np.asarray(read_image(photo, image_size=16), np.float64) / 255
    expected = ((pixels - about.mean) / about.std).transpose(2, 0, 1)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-5)
    network = timm.create_model("afmp_refined_tiny_patch4_32.cifar100", img_size=16)
    transform = create_transform(**resolve_model_data_config(network))
    # The longer side is scaled to a whole number of pixels, so both crop the same; settings have four digits.
    torch.testing.assert_close(found, transform(Image.open(photo)), rtol=0, atol=2e-3)


def test_an_opened_image_is_prepared_as_its_file(photo, tmp_path):
    about = afmp.load(RELEASES[0]).about
    expected = about.prepare_image(photo, image_size=16)
    with Image.open(photo) as image:
        for opened in (image, image.convert("RGBA")):
            assert torch.equal(about.prepare_image(opened, image_size=16), expected)
    with pytest.raises(AfmpError, match="image is ndarray: give the path of an image file, or a PIL image"):
        about.prepare_image(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(AfmpError, match=r"image: cannot be read \(values of mode F have no fixed range"):
        about.prepare_image(Image.new("F", (9, 9)))


def with_replaced_part() -> AFMP:
    model = trained()
    model.embed = torch.nn.Linear(48, 5)
    return model


def without_pool() -> AFMP:
    model = trained()
    model.reset_classifier(3, "")
    return model


def diverged() -> AFMP:
    model = trained()
    model.get_classifier().bias.data[0] = torch.nan
    return model


REFUSED = {
    "a wrapper": (lambda: torch.nn.DataParallel(trained()), {}, "model is DataParallel: .* give the model inside it"),
    "not square": (lambda: trained(img_size=(16, 32)), {}, "images of 16 x 32 px"),
    "grey": (lambda: trained(in_chans=1), {}, "1 channels"),
    "no pool": (without_pool, {}, "global_pool ''"),
    "one mean": (trained, {"mean": [0.5]}, "three numbers from 0 to 1"),
    "a replaced part": (with_replaced_part, {}, "embed.* is .*; save its state_dict"),
    "too deep": (lambda: trained(num_layers=65, d_model=1), {}, "num_layers: 65 .*; save its state_dict"),
    "diverged": (diverged, {}, "readout.2.bias contains NaN"),
    "other classes": (trained, {"class_names": ["a", "b"]}, "class_names has 2 names for the 3 classes"),
    "one text": (trained, {"class_names": "abc"}, "class_names is 'abc': allowed is a list with one text"),
    "numbers": (trained, {"class_names": [0, 1, 2]}, r"class_names is '\[0, 1, 2\]': allowed is a list with one text"),
    "one name twice": (trained, {"class_names": ["a", "b", "a"]}, "class_names has 'a' twice: give each class a name"),
    "of 255": (trained, {"mean": [125.3, 123.0, 113.9]}, "mean is .* scaled to 0 ... 1"),
    "std of 0": (trained, {"std": [0.1, 0, 0.1]}, "std is .* above 0 to 1"),
    "an array of texts": (trained, {"mean": ["a", "b", "c"]}, "mean is .* allowed are three numbers"),
    "pickle": (trained, {"path": "mine.pt"}, "ends in .safetensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_file_cannot_describe_is_not_written(tmp_path, case):
    make, changes, says = REFUSED[case]
    options = {"class_names": NAMES, **SCALE} | changes
    path = tmp_path / options.pop("path", "mine.safetensors")
    with pytest.raises(AfmpError, match=says) as refused:
        afmp.save(make(), path, **options)
    assert not list(tmp_path.iterdir()) and "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["pt", "old pt", "pickle by another name", "safetensors", "timm"])
@pytest.mark.parametrize("command", ["predict", "explain"])
def test_a_file_that_does_not_say_how_its_model_is_built_leads_to_afmp_save(tmp_path, photo, capsys, kind, command):
    model, path = trained(), tmp_path / ("mine.safetensors" if kind != "pt" else "mine.pt")
    if kind == "safetensors":
        safetensors.torch.save_model(model, path)
    elif kind == "timm":
        safetensors.torch.save_file(model.state_dict(), path, {"format": "pt"})
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=kind != "old pt")
    options = ["--output", str(tmp_path / "out.png")] if command == "explain" else []
    assert cli.main([command, str(path), str(photo), *options]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert "load it into a model by " in said and said.endswith("save that model by afmp.save.")
    assert ("a PyTorch file" in said) == (kind not in ("safetensors", "timm"))


MISFITS = {
    "classes": ({"num_classes": 5}, "other classes: .*give head=False"),
    "image": ({"img_size": 64}, "another image size: .*give graph=False"),
    "both": ({"num_classes": 5, "img_size": 64}, "give head=False and graph=False"),
    "patch": ({"patch_size": 8}, "another architecture: embed"),
    "depth": ({"num_layers": 3}, "more, which the model lacks"),
    "width": ({"d_model": 8}, "another architecture: "),
    "semantics": ({"semantics": "paper"}, "build a model of the weights' semantics"),
}


@pytest.mark.promise("unfitting-weights")
@pytest.mark.parametrize("case", MISFITS)
@pytest.mark.parametrize("release", RELEASES)
def test_a_refusal_names_the_argument_that_helps_or_the_builder_of_the_file(release, case):
    changes, says = MISFITS[case]
    call = builder_call(read_about(PROJECT / f"afmp/releases/{release}.safetensors"))
    name, _, arguments = call.removeprefix("afmp.").partition("(")
    model = getattr(afmp, name)(**eval(f"dict({arguments}") | changes)
    with pytest.raises(AfmpError, match=f"{says}.*{re.escape(call)}"):
        afmp.load_weights(model, release)


@pytest.mark.parametrize("release", RELEASES)
def test_the_pages_of_a_release_name_its_builder_and_its_name_in_timm(release):
    folder = PROJECT / "afmp/releases"
    call, name = builder_call(read_about(folder / f"{release}.safetensors")), afmp.timm.name_of_release(release)
    afmp.load_weights(eval(call, {"afmp": afmp}), release)
    for text in ((folder / f"{release}.md").read_text(), (folder / "README.md").read_text()):
        assert f"`{call}`" in text and f"`{name}`" in text
    assert "bilinear" in (folder / f"{release}.md").read_text()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patch_size": 8}, "patches of 4 px, but patch_size is 8"),
        ({"patch_size": 2}, "patches of 4 px, but patch_size is 2"),  # whose pixels are a divisor of the file's
        ({"num_layers": 3}, "another architecture"),
        ({"d_model": 8}, "another architecture"),
        ({"semantics": "paper"}, "another architecture"),
    ],
)
def test_pretrained_weights_in_timm_are_refused_by_another_architecture_in_one_sentence(changes, says):
    with pytest.raises(AfmpError, match=f"the pretrained weights.*{says}"):
        timm.create_model("afmp_refined_tiny_patch4_32.cifar100", pretrained=True, **changes)
