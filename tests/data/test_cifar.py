"""CIFAR: archives in the published layout give the right pixels and labels, and cannot run code."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_archives import archive_of, tar_of, tiny_cifar
from web_server import complete, page_server

from afmp.data.cifar import ARCHIVES, read_cifar
from afmp.data.dataset import load_dataset
from afmp.data.preparation import prepare_dataset
from afmp.errors import AfmpError


@pytest.fixture
def server():
    with page_server() as server:
        yield server


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_cifar_is_downloaded_and_prepared(server, tmp_path, monkeypatch, source):
    content, pixels, labels = tiny_cifar(source)
    server.pages = {"/second": [complete(content)]}
    archive = archive_of(content, f"{server.address}/first", f"{server.address}/second", name="tiny.tar.gz")
    monkeypatch.setitem(ARCHIVES, source, archive)
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


@pytest.mark.promise("checked-cifar-archive")
def test_a_pickle_that_runs_code_is_refused_and_an_unchecked_one_is_never_opened(tmp_path):
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


def test_the_error_names_the_members_that_an_archive_lacks(tmp_path):
    content = tar_of({"cifar-100-python/train": b"x"})
    (tmp_path / "data.tar.gz").write_bytes(content)
    with pytest.raises(AfmpError, match="lacks cifar-100-python/meta, cifar-100-python/test"):
        read_cifar(tmp_path / "data.tar.gz", source="cifar100", archive=archive_of(content))


@pytest.mark.promise("no-plain-file")
@pytest.mark.timeout(10)
def test_an_archive_that_is_no_plain_file_is_called_so(tmp_path):
    content, *_ = tiny_cifar("cifar10")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "longer").write_bytes(content + b"x")
    for name, reason in (("pipe", "is a pipe"), ("endless", "is a device"), ("longer", "its sha256 is not that of")):
        with pytest.raises(AfmpError, match=f"{name}: {reason}"):
            read_cifar(tmp_path / name, source="cifar10", archive=archive_of(content))


@pytest.mark.promise("permissions")
def test_an_archive_that_may_not_be_read_is_not_called_another(powerless):
    content, *_ = tiny_cifar("cifar10")
    (powerless / "data.tar.gz").write_bytes(content)
    (powerless / "data.tar.gz").chmod(0)
    with pytest.raises(AfmpError, match=r"data\.tar\.gz: cannot be read \(Permission denied\)"):
        read_cifar(powerless / "data.tar.gz", source="cifar10", archive=archive_of(content))
