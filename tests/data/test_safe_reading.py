"""Safe reading: no code in a file runs, no unchecked pickle is loaded, and no archive is unpacked to the disk."""

import io
import pickle
import re
import tarfile

import pytest
from conftest import PROJECT
from tiny_archives import archive_of, tar_of, tiny_cifar

from afmp.data.cifar import read_cifar
from afmp.errors import AfmpError

# Calls that could run code from a file, or write to a path from one.
UNSAFE = re.compile(
    r"\b(?:pickle|joblib|dill|cloudpickle|yaml|np|numpy|torch)\.(?:load|loads|Unpickler|full_load|unsafe_load)\b.*"
    r"|\b(?:extract|extractall|unpack_archive|read_pickle)\(.*|(?<![\w.])(?:eval|exec)\(.*|allow_pickle.*"
)


@pytest.mark.promise("nothing-unpickled")
def test_no_other_code_loads_files_unsafely():
    files = [*(PROJECT / "afmp").rglob("*.py"), *(PROJECT / "workflow_scripts").glob("*.py"), *PROJECT.glob("rules/*")]
    assert len(files) > 60
    found = [
        (path.name, match.group()) for path in files for match in UNSAFE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == [
        ("cifar.py", "pickle.Unpickler):"),  # arrays only, from an archive of a known hash: test_cifar.py
        ("weights.py", 'torch.load(file, map_location="cpu", weights_only=True)'),
        ("weights.py", "torch.load(weights_only=True), which builds only"),
    ]


@pytest.mark.promise("nothing-unpickled")
def test_a_swapped_archive_is_refused_before_it_is_opened(tmp_path, monkeypatch):
    content, *_ = tiny_cifar("cifar100")
    swapped = tar_of({f"cifar-100-python/{name}": b"x" for name in ("train", "test", "meta")})
    (tmp_path / "data.tar.gz").write_bytes(swapped)
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(AfmpError, match=r"data\.tar\.gz: its sha256 is not that of data\.tar\.gz; delete it"):
        read_cifar(tmp_path / "data.tar.gz", source="cifar100", archive=archive_of(content))


@pytest.mark.promise("nothing-unpickled")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_an_archive_member_that_is_no_plain_file_is_not_followed(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(pickle.dumps({"data": 1}))
    content = tar_of({f"cifar-100-python/{name}": b"x" for name in ("test", "meta")})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as old, tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("cifar-100-python/train")
        link.type, link.linkname = kind, "cifar-100-python/test" if kind == tarfile.LNKTYPE else str(secret)
        for member in old:
            tar.addfile(member, old.extractfile(member))
        tar.addfile(link)
    (tmp_path / "data.tar.gz").write_bytes(buffer.getvalue())
    with pytest.raises(AfmpError, match=r"the archive lacks cifar-100-python/train"):
        read_cifar(tmp_path / "data.tar.gz", source="cifar100", archive=archive_of(buffer.getvalue()))


@pytest.mark.promise("nothing-unpickled")
def test_reading_an_archive_writes_nothing_to_the_disk(tmp_path, monkeypatch):
    content, *_ = tiny_cifar("cifar100")  # one member is called ../../escape
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (inside / "data.tar.gz").write_bytes(content)
    monkeypatch.chdir(inside)
    read_cifar(inside / "data.tar.gz", source="cifar100", archive=archive_of(content))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [inside / "data.tar.gz"]
