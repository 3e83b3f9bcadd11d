"""Data: every source gives the right pixels and labels in one checked file; nothing bad gets in unnoticed."""

import http.server
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as vision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_archives import archive_of, tar_of, tiny_cifar

from afmp.data import dataset as datasets
from afmp.data.augmentation import crop_places, cut_and_normalise, epoch_plan, normalise, pad_images
from afmp.data.cifar import read_cifar
from afmp.data.dataset import load_dataset, prepare_dataset, stratified_holdout
from afmp.data.download import ARCHIVES, fetch
from afmp.data.image_folder import fit_square, read_image, read_image_folder, to_rgb
from afmp.errors import AfmpError

# ---------------------------------------------------------------------------- download


@pytest.fixture
def server():
    """A local web server: `pages` maps a path to the (status, type, body, announced length) it serves."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            httpd.asked.append(self.path)
            answers = httpd.pages.get(self.path, [(404, "text/plain", b"no", 2)])
            status, kind, body, length = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.pages, httpd.asked = {}, []
    httpd.address = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


CONTENT = bytes(range(256)) * 9000


def good(content: bytes = CONTENT):
    return 200, "application/gzip", content, len(content)


FAULTS = {
    "cut": ((200, "application/gzip", CONTENT[:1000], len(CONTENT)), "cut after 1,000 of 2,304,000 bytes"),
    "page": ((200, "text/html", b"\n<!DOCTYPE html><p>moved</p>", 28), "a web page"),
    "checksum": ((200, "application/gzip", CONTENT[::-1], len(CONTENT)), "the sha256 is "),
    "short": ((200, "application/gzip", CONTENT[:-1], len(CONTENT) - 1), "cut after"),
    "long": ((200, "application/gzip", CONTENT + b"x", len(CONTENT) + 1), "more than the expected"),
    "missing": ((404, "text/html", b"<p>no</p>", 9), "answered 404"),
    "broken": ((503, "text/plain", b"busy", 4), "answered 503"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_source_is_left_for_the_next_one(server, tmp_path, fault):
    server.pages = {"/bad": [FAULTS[fault][0]], "/good": [good()]}
    archive = archive_of(CONTENT, f"{server.address}/bad", f"{server.address}/good")
    fetch(archive, tmp_path / "new" / "data.tar.gz", attempts=2, first_wait=0)
    assert (tmp_path / "new" / "data.tar.gz").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.tar.gz"]
    # Only what may pass by itself is asked for twice.
    assert server.asked == ["/bad"] * (2 if fault in ("cut", "short", "broken") else 1) + ["/good"]


def test_when_every_source_fails_the_error_tells_how_to_help_oneself(server, tmp_path):
    server.pages = {f"/{fault}": [answer] for fault, (answer, _) in FAULTS.items()}
    nobody = "http://127.0.0.1:9/nobody"
    archive = archive_of(CONTENT, *(f"{server.address}/{fault}" for fault in FAULTS), nobody)
    with pytest.raises(AfmpError) as raised:
        fetch(archive, tmp_path / "data.tar.gz", attempts=1)
    message = str(raised.value)
    for fault, (_, reason) in FAULTS.items():
        line = next(line for line in message.splitlines() if line.strip().startswith(f"{server.address}/{fault}:"))
        assert reason in line
    assert f"{nobody}: no connection" in message
    assert archive.sha256 in message.splitlines()[-1] and str(tmp_path / "data.tar.gz") in message.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_recovers_is_used(server, tmp_path):
    server.pages = {"/a": [FAULTS["cut"][0], FAULTS["broken"][0], good()]}
    fetch(archive_of(CONTENT, f"{server.address}/a"), tmp_path / "data.tar.gz", first_wait=0)
    assert (tmp_path / "data.tar.gz").read_bytes() == CONTENT


def test_a_file_placed_by_hand_needs_no_network_and_a_wrong_one_is_replaced(server, tmp_path):
    placed = tmp_path / "data.tar.gz"
    placed.write_bytes(CONTENT)
    server.pages = {"/a": [good()]}
    archive = archive_of(CONTENT, f"{server.address}/a")
    fetch(archive, placed)
    assert server.asked == []
    placed.write_bytes(CONTENT[:-1])
    fetch(archive, placed)
    assert placed.read_bytes() == CONTENT
    placed.write_bytes(b"kept until there is something better")
    server.pages = {}
    with pytest.raises(AfmpError, match="is there, but its sha256 is another"):
        fetch(archive, placed)
    assert placed.read_bytes() == b"kept until there is something better"


def test_the_table_of_archives_asks_the_failing_original_host_last():
    for source in ("cifar10", "cifar100"):
        archive = ARCHIVES[source]
        assert len(archive.sha256) == 64 and len(set(archive.addresses)) == len(archive.addresses) >= 3
        assert ["toronto" in address for address in archive.addresses].index(True) == len(archive.addresses) - 1
        assert all(address.startswith("https://") for address in archive.addresses)


# ---------------------------------------------------------------------------- CIFAR archives


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_cifar_goes_from_the_network_to_the_prepared_file(server, tmp_path, monkeypatch, source):
    content, pixels, labels = tiny_cifar(source)
    server.pages = {"/second": [good(content)]}
    archive = archive_of(content, f"{server.address}/first", f"{server.address}/second", name="tiny.tar.gz")
    monkeypatch.setitem(datasets.ARCHIVES, source, archive)
    config = {"source": source, "path": None, "image_size": 32}
    prepare_dataset(config, tmp_path / "prepared" / "a.safetensors", download_folder=tmp_path / "store")
    data = load_dataset(tmp_path / "prepared" / "a.safetensors")
    assert (data.name, data.class_names, data.num_classes, data.image_size) == (
        source,
        ("ape", "bee", "cod"),
        3,
        32,
    )
    assert np.array_equal(data.train_images.numpy(), pixels) and data.train_labels.tolist() == labels
    assert np.array_equal(data.test_images.numpy(), pixels[::-1][:3]) and data.test_labels.tolist() == [
        2,
        1,
        0,
    ]
    assert data.train_images.dtype == torch.uint8 and data.train_labels.dtype == torch.int64
    np.testing.assert_allclose(data.mean, (pixels / 255).mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, (pixels / 255).std((0, 2, 3)), rtol=1e-6)
    # The archive is kept: preparing again needs no network.
    server.pages = {}
    prepare_dataset({**config, "image_size": 16}, tmp_path / "b.safetensors", download_folder=tmp_path / "store")
    assert load_dataset(tmp_path / "b.safetensors").test_images.shape == (3, 3, 16, 16)


def test_a_pickle_that_runs_code_is_refused_and_an_unchecked_one_never_opened(tmp_path):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "attacked",)

    members = {f"cifar-100-python/{name}": pickle.dumps(Attack(), 2) for name in ("train", "test", "meta")}
    content = tar_of(members)
    (tmp_path / "data.tar.gz").write_bytes(content)
    with pytest.raises(AfmpError, match=r"cifar-100-python/.*refused to unpickle"):
        read_cifar(tmp_path / "data.tar.gz", source="cifar100", archive=archive_of(content))
    with pytest.raises(AfmpError, match=r"sha256 is not that of cifar-100-python.tar.gz"):
        read_cifar(tmp_path / "data.tar.gz", source="cifar100", archive=ARCHIVES["cifar100"])
    assert not (tmp_path / "attacked").exists()


def test_an_archive_without_its_members_says_so(tmp_path):
    content = tar_of({"cifar-100-python/train": b"x"})
    (tmp_path / "data.tar.gz").write_bytes(content)
    with pytest.raises(AfmpError, match="lacks cifar-100-python/meta, cifar-100-python/test"):
        read_cifar(tmp_path / "data.tar.gz", source="cifar100", archive=archive_of(content))


# ---------------------------------------------------------------------------- image folders


def colour(red: int, green: int = 0, blue: int = 0, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, (red, green, blue))


@pytest.fixture
def folder(tmp_path):
    """Two classes, one with a space and non-ASCII letters; red says which image it is."""
    root = tmp_path / "bilder & mehr"
    for split, start in (("train", 10), ("test", 100)):
        for number, name in enumerate(["zèbre 斑马", "Apfel"]):
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                image = colour(start + 10 * number + index)
                image.save(root / split / name / f"bild {index} ü.{('png', 'bmp', 'webp')[index]}", lossless=True)
    (root / "train" / "Apfel" / ".hidden").write_text("ignored")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "Apfel" / "Thumbs.db").write_text("ignored")
    return root


def test_a_folder_is_read_in_the_order_of_its_names(folder, tmp_path):
    config = {"source": "folder", "path": str(folder), "image_size": 8}
    prepare_dataset(config, tmp_path / "a.safetensors", download_folder=tmp_path)
    data = load_dataset(tmp_path / "a.safetensors")
    assert data.name == "bilder & mehr" and data.class_names == ("Apfel", "zèbre 斑马")
    assert data.train_images[:, 0, 0, 0].tolist() == [20, 21, 22, 10, 11, 12]
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test_images[:, 0, 7, 7].tolist() == [110, 111, 112, 100, 101, 102]
    assert not data.train_images[:, 1:].any() and torch.equal(data.std, torch.tensor([data.std[0], 1.0, 1.0]))


def test_val_stands_in_for_test(folder):
    (folder / "test").rename(folder / "val")
    assert len(read_image_folder(folder, image_size=8)[2]) == 6


FOLDER_MISTAKES = {
    "no train": (lambda root: (root / "train").rename(root / "training"), "there is no train/<class>/"),
    "no test": (
        lambda root: (root / "test").rename(root / "probe"),
        "there is no test/<class>/ or val/<class>/",
    ),
    "no classes": (
        lambda root: [p.rename(root / p.name) for p in (root / "test").iterdir()],
        "no class folders",
    ),
    "empty class": (
        lambda root: [p.unlink() for p in (root / "test" / "Apfel").iterdir()],
        "Apfel: there are no images",
    ),
    "another class": (
        lambda root: (root / "test" / "Apfel").rename(root / "test" / "Birne"),
        r"\['Apfel', 'Birne'\]",
    ),
    "nested": (
        lambda root: (root / "test" / "Apfel" / "deeper").mkdir(),
        "deeper: a class folder holds only images",
    ),
    "a text": (
        lambda root: (root / "test" / "Apfel" / "notes.txt").write_text("x"),
        "notes.txt: a class folder",
    ),
    "an empty file": (
        lambda root: (root / "test" / "Apfel" / "x y.png").write_bytes(b""),
        "x y.png: is an empty file",
    ),
    "not an image": (
        lambda root: (root / "test" / "Apfel" / "x.png").write_text("<html>"),
        "x.png: cannot be read",
    ),
}


@pytest.mark.parametrize("mistake", FOLDER_MISTAKES)
def test_a_folder_that_is_wrong_is_refused_by_name(folder, mistake):
    make, message = FOLDER_MISTAKES[mistake]
    make(folder)
    with pytest.raises(AfmpError, match=message):
        read_image_folder(folder, image_size=8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damaged_animated_and_huge_images_are_refused_by_name(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    noise.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    noise.save(tmp_path / "moving.gif", save_all=True, append_images=[colour(1, size=(64, 64))])
    noise.save(tmp_path / "pages.tif", save_all=True, append_images=[colour(1, size=(64, 64))])
    Image.new("1", (9500, 9500)).save(tmp_path / "bomb.png")
    Image.new("1", (14000, 14000)).save(tmp_path / "worse.png")
    Image.new("F", (8, 8)).save(tmp_path / "float.tif")
    for name, message in {
        "cut.png": "cannot be read as an image",
        "moving.gif": "has 2 frames",
        "pages.tif": "has 2 frames",
        "bomb.png": "refused unread",
        "worse.png": "refused unread",
        "float.tif": "no fixed range",
        "absent.png": "cannot be read as an image",
    }.items():
        with pytest.raises(AfmpError, match=f"{name}.*{message}"):
            read_image(tmp_path / name, image_size=8)


def test_every_mode_becomes_rgb_as_said(tmp_path):
    palette = colour(200, 100, 50).quantize(4)
    seen = Image.new("RGBA", (8, 8), (200, 100, 50, 255))
    half = Image.new("RGBA", (8, 8), (200, 100, 50, 128))
    hidden = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    deep = Image.fromarray(np.full((8, 8), 51400, np.uint16))  # 200 * 257
    cases = {
        "grey.png": (Image.new("L", (8, 8), 200), (200, 200, 200)),
        "grey_alpha.png": (Image.new("LA", (8, 8), (200, 0)), (0, 0, 0)),
        "bilevel.png": (Image.new("1", (8, 8), 1), (255, 255, 255)),
        "palette.png": (palette, (200, 100, 50)),
        "seen.png": (seen, (200, 100, 50)),
        "half.png": (half, (100, 50, 25)),
        "hidden.webp": (hidden, (0, 0, 0)),
        "deep.png": (deep, (200, 200, 200)),
        "deep.tif": (deep, (200, 200, 200)),
        "print.tif": (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), (0, 0, 0)),
    }
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name, lossless=True)
        pixels = np.asarray(read_image(tmp_path / name, image_size=8))
        assert pixels.shape == (8, 8, 3) and (pixels == expected).all(), name
    palette.save(tmp_path / "clear.png", transparency=int(np.asarray(palette)[0, 0]))
    assert not np.asarray(read_image(tmp_path / "clear.png", image_size=8)).any()
    assert (
        np.asarray(to_rgb(Image.fromarray(np.array([[0, 65535]], np.uint16)))).ravel().tolist() == [0] * 3 + [255] * 3
    )


def test_other_sizes_are_scaled_by_the_shorter_side_and_cut_at_the_centre():
    stripes = Image.new("RGB", (48, 16), (255, 0, 0))
    stripes.paste((0, 255, 0), (16, 0, 32, 16))
    assert (np.asarray(fit_square(stripes, 8))[:, 1:7] == (0, 255, 0)).all()
    assert fit_square(stripes.rotate(90, expand=True), 32).size == (32, 32)
    board = Image.fromarray((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    assert abs(np.asarray(fit_square(board, 16)).astype(int) - 128).max() < 8  # antialiased: grey, not black or white
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    assert np.array_equal(fit_square(noise, 8), noise)


# ---------------------------------------------------------------------------- the prepared file

DIGITS = {"source": "digits", "path": None, "image_size": 32}


@pytest.fixture(scope="module")
def digits_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.safetensors"
    prepare_dataset(DIGITS, path, download_folder=path.parent / "never")
    return path


def test_digits_are_the_real_ones_split_by_class(digits_file):
    data = load_dataset(digits_file)
    assert data.train_images.shape == (1442, 3, 32, 32) and data.test_images.shape == (355, 3, 32, 32)
    counts = torch.bincount(torch.cat([data.train_labels, data.test_labels])).tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI's own counts
    assert torch.bincount(data.test_labels).tolist() == [count // 5 for count in counts]
    assert data.train_images.min() == 0 and data.train_images.max() == 255
    assert torch.equal(data.train_images[:, 0], data.train_images[:, 2])
    # Ink in the middle of a 1 and none in the middle of a 0: images and labels belong together.
    middle = data.train_images[:, 0, 12:20, 14:18].float().mean((1, 2))
    assert middle[data.train_labels == 1].mean() > 4 * middle[data.train_labels == 0].mean()
    assert [path.name for path in digits_file.parent.iterdir()] == [digits_file.name]  # no network, no leftovers


def test_the_same_input_gives_the_same_bytes_in_another_process(digits_file, tmp_path):
    code = f"""from pathlib import Path; from afmp.data.dataset import prepare_dataset
prepare_dataset({DIGITS}, Path({str(tmp_path / "again")!r}), download_folder=Path("/nowhere"))"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(datasets.__file__).parents[2])
    assert (tmp_path / "again").read_bytes() == digits_file.read_bytes()


def test_the_hash_is_of_the_content(folder, tmp_path):
    def hash_of(root, size=8):
        config = {"source": "folder", "path": root, "image_size": size}
        prepare_dataset(config, tmp_path / "a", download_folder=tmp_path)
        return load_dataset(tmp_path / "a").hash

    before = hash_of(folder)
    moved = folder.rename(tmp_path / "moved")
    assert hash_of(moved) == before
    assert hash_of(moved, size=9) != before
    (moved / "train" / "Apfel").rename(moved / "train" / "Apple")
    (moved / "test" / "Apfel").rename(moved / "test" / "Apple")
    renamed = hash_of(moved)
    first = moved / "train" / "Apple" / "bild 0 ü.png"
    image = Image.open(first).copy()
    image.putpixel((3, 3), (21, 0, 0))
    image.save(first)
    assert len({before, renamed, hash_of(moved)}) == 3


def test_damage_is_found_and_said(digits_file, tmp_path):
    content = bytearray(digits_file.read_bytes())
    with safe_open(digits_file, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    damaged = tmp_path / "damaged.safetensors"
    mean_at = content.index(b"mean") + 12
    for position in (len(content) - 1, len(content) // 2, 20_000, mean_at):
        flipped = bytearray(content)
        flipped[position] ^= 1
        damaged.write_bytes(flipped)
        with pytest.raises(AfmpError, match=r"damaged.safetensors.*delete it so that it is prepared again"):
            load_dataset(damaged)
    for wrong in (b"", b"not this", content[:-1], content[: len(content) // 2]):
        damaged.write_bytes(wrong)
        with pytest.raises(AfmpError, match=r"damaged.safetensors.*delete it so that it is prepared again"):
            load_dataset(damaged)
    save_file(tensors, damaged)
    with pytest.raises(AfmpError, match="not a prepared dataset"):
        load_dataset(damaged)
    old = metadata["dataset"].replace('"format_version": 1', '"format_version": 0')
    save_file(tensors, damaged, {"dataset": old})
    with pytest.raises(AfmpError, match="has format version 0, this version reads 1"):
        load_dataset(damaged)
    with pytest.raises(AfmpError, match="absent: no such file"):
        load_dataset(tmp_path / "absent")


def test_a_failure_leaves_the_old_file_alone(digits_file, folder, tmp_path):
    target = tmp_path / "out" / "data.safetensors"
    target.parent.mkdir()
    target.write_bytes(b"old")
    (folder / "test" / "Apfel" / "bad.png").write_bytes(b"")
    with pytest.raises(AfmpError):
        prepare_dataset({"source": "folder", "path": folder, "image_size": 8}, target, download_folder=tmp_path)
    assert target.read_bytes() == b"old" and len(list(target.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "cifar"}, "dataset/source: found 'cifar'; allowed are cifar10, cifar100, digits, folder"),
        ({"image_size": 0}, "dataset/image_size: found 0"),
        ({"source": "folder"}, "dataset/path: found nothing"),
        ({"source": "folder", "path": "/no/such"}, "dataset/path: /no/such is not a folder"),
    ],
)
def test_an_impossible_config_names_its_key(tmp_path, change, message):
    with pytest.raises(AfmpError, match=message):
        prepare_dataset(DIGITS | change, tmp_path / "a", download_folder=tmp_path)


# ---------------------------------------------------------------------------- split and augmentation


def test_the_holdout_is_stratified_complete_and_always_the_same():
    labels = torch.tensor([0] * 50 + [1] * 20 + [2] * 3 + [3] * 2 + [4])[torch.randperm(76)]
    train, val = stratified_holdout(labels, 0.1)
    assert train.dtype == val.dtype == torch.int64
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(76))
    assert torch.equal(train, train.sort().values) and torch.equal(val, val.sort().values)
    assert torch.bincount(labels[val], minlength=5).tolist() == [5, 2, 1, 1, 0]
    assert torch.equal(stratified_holdout(labels, 0.1)[1], val)
    assert torch.bincount(labels[stratified_holdout(labels, 0.99)[0]]).tolist() == [1, 1, 1, 1, 1]
    # A golden value: runs of different years and NumPy versions must hold out the same images.
    assert stratified_holdout(torch.arange(20) % 2, 0.2)[1].tolist() == [4, 7, 11, 16]
    with pytest.raises(AfmpError, match=r"found 1.0"):
        stratified_holdout(labels, 1.0)


def test_the_plan_of_an_epoch_depends_on_seed_and_epoch_alone():
    torch.manual_seed(1)
    plan = epoch_plan(1000, seed=3, epoch=7)
    torch.manual_seed(2)
    again = epoch_plan(1000, seed=3, epoch=7)
    assert all(torch.equal(a, b) for a, b in zip(plan, again, strict=True))
    assert torch.equal(plan.order.sort().values, torch.arange(1000))
    assert plan.offsets.shape == (1000, 2) and plan.offsets.dtype == torch.int64 and plan.flips.dtype == torch.bool
    assert plan.offsets.unique().tolist() == list(range(9)) and 400 < plan.flips.sum() < 600
    for seed, epoch in ((3, 8), (4, 7), (7, 3), (37, 0)):
        other = epoch_plan(1000, seed=seed, epoch=epoch)
        assert (other.order == plan.order).float().mean() < 0.02
        assert 0.4 < (other.flips == plan.flips).float().mean() < 0.6
    plain = epoch_plan(1000, seed=3, epoch=7, padding=0, flip=False)
    assert torch.equal(plain.order, plan.order)
    assert not plain.offsets.any() and not plain.flips.any()


@pytest.mark.parametrize(("height", "width", "padding"), [(32, 32, 4), (8, 12, 3), (5, 5, 0)])
def test_augmentation_equals_torchvision_image_by_image(height, width, padding):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, height, width), generator=generator, dtype=torch.uint8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    _, offsets, flips = epoch_plan(64, seed=0, epoch=0, padding=padding)
    expected = []
    for image, (top, left), flip in zip(images, offsets.tolist(), flips.tolist(), strict=True):
        image = vision.crop(vision.pad(image, [padding]), top, left, height, width)
        image = vision.hflip(image) if flip else image
        expected.append(vision.normalize(image.float() / 255, mean.tolist(), std.tolist()))
    padded, every = pad_images(images, padding), torch.arange(64)
    result = cut_and_normalise(padded, *crop_places(padded, every, offsets, flips), mean=mean, std=std)
    assert result.dtype == torch.float32 and result.is_contiguous()
    torch.testing.assert_close(result, torch.stack(expected), rtol=1e-6, atol=1e-6)
    still = crop_places(padded, every, torch.full((64, 2), padding), torch.zeros(64, dtype=bool))
    assert torch.equal(cut_and_normalise(padded, *still, mean=mean, std=std), normalise(images, mean, std))
