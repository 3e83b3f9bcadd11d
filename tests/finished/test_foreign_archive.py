"""An archive may come from anywhere: nothing of it runs, is written elsewhere, or fills the machine."""

import gzip
import io
import json
import os
import shutil
import struct
import tracemalloc
import unicodedata
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import yaml
from archived_study import change_record, replace_file, rewrite_manifest, small_config, write_small_archive
from conftest import PROJECT
from finished_study import fill_results
from PIL import Image

from afmp.cli import main
from afmp.errors import AfmpError
from afmp.finished import archive_figures
from afmp.finished.archive import write_archive
from afmp.finished.archive_figures import draw_archive
from afmp.finished.expected import applies_to, ranges_of, read_expected
from afmp.finished.manifest import entry
from afmp.finished.opened_archive import MAX_UNPACKED_BYTES, archived_study, open_archive
from afmp.finished.sweep_contradictions import of_sweep
from afmp.study.paths import scalability_file
from afmp.study.study import resolve_study

DRAWINGS = archive_figures.archive_drawings
RESULT = "train/paper/top_down/seed_0/results_top_down.json"
GATES = "train/paper/top_down/seed_0/diagnostics.json"
SWEEP = "benchmark_scalability/paper/scalability.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_small_archive(tmp_path_factory.mktemp("made"))


@pytest.fixture
def kept(made, tmp_path) -> Path:
    """An archive that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "in" / "archive"))


def refusal(kept: Path, *, drawing: str | None = None) -> str:
    """Return the sentence with which an archive is refused, after nothing was written.

    drawing: draw only what uses this record.
    """
    everything = kept.parent.parent
    before = set(everything.rglob("*"))
    with pytest.MonkeyPatch.context() as patched, pytest.raises(AfmpError) as caught:
        if drawing:
            patched.setattr(
                archive_figures, "archive_drawings", lambda study: [d for d in DRAWINGS(study) if drawing in d.sources]
            )
        draw_archive(kept, everything / "drawn", finished=everything / "finished")
    assert set(everything.rglob("*")) == before
    said = str(caught.value)
    assert said.startswith(str(kept)) and said.isprintable() and len(said) < 1500
    return said


@contextmanager
def at_most(num_bytes: float):
    """Fail if the block takes more memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < num_bytes
    finally:
        tracemalloc.stop()


NO_NAMES = {
    "out of it": ("x/../../escape/f", "outside of the archive"),
    "a root": ("/etc/passwd", "outside of the archive"),
    "only up": ("..", "outside of the archive"),
    "itself": ("./study.json", "no archived file is called"),
    "an empty part": ("train//f", "no archived file is called"),
    "nothing": ("", "no archived file is called"),
    "another system's root": ("C:\\Windows\\f", "no archived file is called"),
    "another system's folder": ("train\\f", "no archived file is called"),
    "a zero": ("train/a\0b", "no archived file is called"),
    "a terminal's code": ("train/\x1b[2Jb", "no archived file is called"),
    "a line end": ("study.json\n", "no archived file is called"),
    "composed": (unicodedata.normalize("NFC", "é.json"), "no archived file is called"),
    "decomposed": (unicodedata.normalize("NFD", "é.json"), "no archived file is called"),
    "long": ("x" * 100_000, "no archived file is called"),
    "hidden": (".git/hooks/post-checkout", "no archived file is called"),
    "the manifest": ("MANIFEST.json", "itself and MANIFEST.json"),
    "twice by case": ("Study.json", "study.json and Study.json, which are one file"),
    "twice by packing": ("study.json.gz", "study.json and study.json.gz, which are one file"),
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.parametrize("kind", NO_NAMES)
def test_a_name_that_no_archived_file_has_is_refused_unread(kept, monkeypatch, kind):
    name, message = NO_NAMES[kind]
    rewrite_manifest(kept, lambda manifest: manifest["files"].update({name: entry(b"")}))
    monkeypatch.setattr("afmp.finished.opened_archive.checked_content", lambda *_: pytest.fail("a file was opened"))
    assert message in refusal(kept)


def _moved_out(file: Path) -> Path:
    return file.rename(file.parents[file.parts[::-1].index("archive")].parent / file.name)


NO_FILES = {
    "link": ("study.json", lambda file: file.symlink_to(_moved_out(file)), "outside of the archive: it is a link"),
    "link inside": ("study.json", lambda file: file.symlink_to(file.rename(file.with_name("x"))), "it is a link"),
    "folder that is a link": ("train", lambda file: file.symlink_to(_moved_out(file)), "in a folder that is one"),
    "pipe": ("config.yaml", lambda file: (file.unlink(), os.mkfifo(file)), "config.yaml: is a pipe, where"),
    "folder": (RESULT, lambda file: (file.unlink(), file.mkdir()), "is a folder, where a plain file belongs"),
    "device": ("config.yaml", lambda file: (file.unlink(), file.symlink_to("/dev/zero")), "it is a link"),
    "manifest that is a pipe": ("MANIFEST.json", lambda file: (file.unlink(), os.mkfifo(file)), "is a pipe, where"),
    "file that grew": ("study.json", lambda file: os.truncate(file, 1 << 40), "refused unread"),
    "manifest that grew": ("MANIFEST.json", lambda file: os.truncate(file, 1 << 40), "refused unread"),
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_plain_file_of_the_archive_is_refused(kept, kind):
    path, change, message = NO_FILES[kind]
    change(kept / path)
    assert message in refusal(kept)


def with_study(kept: Path, change) -> None:
    study = json.loads((kept / "study.json").read_text())
    replace_file(kept, "study.json", json.dumps(change(study) or study).encode())


def _other_run(study: dict) -> None:
    study["runs"]["../../../victim"] = study["runs"].pop("top_down")


STUDIES = {
    "another run": (_other_run, "runs/../../../victim is not in config.yaml"),
    "another seed": (lambda study: study.update(seeds=["../../x", 1]), "seeds/0 is '../../x', but config.yaml gives 0"),
    "more seeds": (
        lambda study: study.update(seeds=list(range(10**6))),
        "seeds is [0, 1, 2, 3, 4, 5, ...], but config",
    ),
    "another semantics": (lambda study: study["semantics"].reverse(), "semantics/0 is 'notebook', but config.yaml"),
    "a flag that is a number": (lambda study: study["runs"]["top_down"]["model"].update(use_top_down=1), "is 1, but"),
    "a missing key": (lambda study: {**study, "studies": None}, "studies is None, but config.yaml gives [{"),
    "no key": (lambda study: {"dataset": {}}, "runs is missing"),
    "a list": (lambda study: [study], "the whole file is [{"),
    "deep": (lambda study: json.loads("[" * 900 + "]" * 900), "the whole file is [[[[[[[...]]]]"),
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.parametrize("kind", STUDIES)
def test_a_study_that_is_not_that_of_the_configuration_is_refused(kept, kind):
    change, message = STUDIES[kind]
    with_study(kept, change)
    said = refusal(kept)
    assert message in said and "study.json" in said and "restore the archive, or read it with the release" in said


def test_json_nested_too_deeply_is_refused(kept):
    replace_file(kept, "study.json", b"[" * 10**6)
    assert "study.json: not a JSON file" in refusal(kept)
    replace_file(kept, "study.json", (PROJECT / "config.yaml").read_bytes())
    assert "study.json: not a JSON file" in refusal(kept)


CONFIGS = {
    "a run": (
        lambda config: config["studies"]["top_down_refinement"]["runs"][0].update(run="../../victim"),
        "/0/run: ",
    ),
    "a figure": (lambda config: config["studies"]["top_down_refinement"].update(figure="../../x"), "/figure: found"),
    "a semantics": (lambda config: config.update(semantics=["../paper"]), "semantics/0: found '../paper'"),
    "a seed": (lambda config: config.update(seeds=["0/../.."]), "seeds/0: found '0/../..'"),
    "epochs": (lambda config: config["training"].update(epochs=10**9), "training/epochs: found 1000000000"),
    "a missing key": (lambda config: config.pop("scalability"), "scalability: missing"),
    "many seeds": (lambda config: config.update(seeds=list(range(900))), "900 seeds, but MANIFEST.json names"),
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.parametrize("kind", CONFIGS)
def test_an_archived_configuration_has_the_checks_of_any_other(kept, kind):
    change, message = CONFIGS[kind]
    config = yaml.safe_load((kept / "config.yaml").read_text())
    change(config)
    replace_file(kept, "config.yaml", yaml.safe_dump(config).encode())
    assert message in (said := refusal(kept)) and "restore the archive" in said


def test_an_archived_configuration_cannot_fill_the_memory(kept):
    laughs = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 20))
    for content in (f"l0: &l0 [x]\n{laughs}".encode(), b" " * 10**8):
        replace_file(kept, "config.yaml", content)
        with at_most(20e6):
            assert "config.yaml" in refusal(kept)


@cache
def bomb(content: bytes, *, times: int) -> bytes:
    """Return gzip of a content repeated."""
    packer = zlib.compressobj(1, wbits=31)
    return b"".join([*(packer.compress(content) for _ in range(times)), packer.flush()])


BOMBS = {
    "zeros": lambda: bomb(bytes(10**6), times=1500),
    "a number": lambda: bomb(b"1" * 10**6, times=33),
    "many members": lambda: gzip.compress(bytes(10**6)) * 60,
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.parametrize("path", [RESULT, SWEEP, "study.json", "config.yaml"])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_packed_file_is_unpacked_no_further_than_allowed(kept, kind, path):
    replace_file(kept, f"{path}.gz", BOMBS[kind](), instead=path)
    with at_most(200e6):
        said = refusal(kept, drawing=path if path in (RESULT, SWEEP) else None)
    assert path in said and "bytes once it is unpacked" in said


PACKED = gzip.compress(b"x", mtime=0)  # the parameters below must be equal in every process of pytest


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"no gzip", PACKED[:-3], PACKED + b"y"])
def test_a_packed_file_that_is_none_is_refused(kept, content):
    replace_file(kept, f"{RESULT}.gz", content, instead=RESULT)
    assert RESULT in refusal(kept)


HUGE = {
    "lists": b'{"epochs": [' + b"[]," * 9_000_000 + b"[]]}",
    "mappings": b'{"epochs": [' + b"{}," * 9_000_000 + b"{}]}",
    "numbers": b'{"epochs": [' + b"0," * 9_000_000 + b"0]}",
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize("path", [RESULT, SWEEP])
def test_a_record_of_very_many_values_is_refused_unread(kept, kind, path):
    assert len(HUGE[kind]) < MAX_UNPACKED_BYTES
    replace_file(kept, f"{path}.gz", gzip.compress(HUGE[kind], 1), instead=path)
    with at_most(200e6):
        said = refusal(kept, drawing=path)
    assert path in said and "8,000,000 values" in said


def _deep(record: dict) -> None:
    record["config"]["dataset"] = {}
    inner = record["config"]["dataset"]
    for _ in range(900):
        inner["x"] = {}
        inner = inner["x"]


RECORDS = {
    "another run": (RESULT, lambda r: r.update(run="../../x"), "run is '../../x', but its path says 'top_down'"),
    "another seed": (RESULT, lambda r: r.update(seed=1), "seed is 1, but its path says 0"),
    "a missing section": (RESULT, lambda r: r["config"].update(model={}), "config/model/d_model is missing"),
    "another configuration": (
        RESULT,
        lambda r: r["config"]["model"].update(d_model=9),
        "config/model/d_model is 9, but",
    ),
    "too many epochs": (
        RESULT,
        lambda r: r.update(training_history={key: [1.0] * 20_000 for key in r["training_history"]}),
        "training_history has 20,000 epochs, but config.yaml gives 3",
    ),
    "a long name": (RESULT, lambda r: r["device"].update(name="x" * 10**6), "device/name: "),
    "no list": (RESULT, lambda r: r.update(training_history=3), "training_history: 3 is not of type"),
    "nested": (RESULT, _deep, ""),
    "edges to nowhere": (GATES, lambda r: r.update(edge_index=[[10**6] * 42, [10**18] * 42]), "cannot be drawn from"),
    "fewer edges": (GATES, lambda r: r.update(edge_index=[[0], [1]]), "cannot be drawn from its records"),
    "many layers": (
        GATES,
        lambda r: r["epochs"].update({"3": {"mean_gate": [[]] * 20_000, "pruned_percent": [0.0] * 20_000}}),
        "has not 4 layers",
    ),
    "no last epoch": (GATES, lambda r: r["epochs"].pop("3"), "found no epoch 3"),
    "another image": (GATES, lambda r: r.update(image_index=10**4000), "lacks test_images/1000"),
    "a size beyond all": (GATES, lambda r: r.update(patch_size=10**400), "cannot be drawn from its records"),
    "points": (SWEEP, lambda r: r.update(points=r["points"] * 500), "points, but config.yaml gives at most"),
    "no numbers": (SWEEP, lambda r: r["points"][0].update(num_patches=10**400), "cannot be drawn from its records"),
}


@pytest.mark.promise("foreign-archive")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_that_does_not_fit_its_study_is_refused_by_name(kept, kind):
    path, change, message = RECORDS[kind]
    change_record(kept, path, change)
    assert message in refusal(kept, drawing=path)


def png(width: int, height: int, *, colour: int = 2, data: bytes = b"", extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _saved(kind: str, mode: str = "RGB", size: int = 32, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (size, size)).save(buffer, kind, **options)
    return buffer.getvalue()


IMAGES = {
    "a program for a printer": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EOF",
    "a TIFF": lambda: _saved("TIFF"),
    "a GIF": lambda: _saved("GIF", "P"),
    "a huge one": lambda: png(13_300, 13_300),
    "a larger one": lambda: png(100_000, 100_000),
    "another size": lambda: _saved("PNG", size=33),
    "grey": lambda: _saved("PNG", "L"),
    "a palette": lambda: _saved("PNG", "P"),
    "cut": lambda: _saved("PNG")[:-30],
    "without pixels": lambda: png(32, 32),
    "a bomb of text": lambda: png(32, 32, data=bytes(32 * 97), extra=_text_bomb()),
    "nothing": lambda: b"",
}


def _text_bomb() -> bytes:
    content = b"Comment\0\0" + zlib.compress(bytes(10**8))
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


@pytest.mark.promise("foreign-archive")
@pytest.mark.parametrize("kind", IMAGES)
def test_a_picture_that_is_not_the_study_s_is_refused_undecoded(kept, kind):
    replace_file(kept, "test_images/0.png", IMAGES[kind]())
    with at_most(60e6):
        assert "test_images/0.png" in refusal(kept, drawing=GATES)


@pytest.mark.parametrize("count", [10_001, 40_000])
def test_a_manifest_of_very_many_files_is_refused(kept, count):
    rewrite_manifest(kept, lambda manifest: manifest["files"].update({f"f{n}": entry(b"") for n in range(count)}))
    assert "MANIFEST.json" in refusal(kept)


def test_a_manifest_of_very_many_bytes_is_refused(kept):
    rewrite_manifest(kept, lambda manifest: manifest.update(files={"x": entry(b"") | {"bytes": 10**12}}))
    assert "an archive has at most 1,000,000,000" in refusal(kept)


@pytest.mark.promise("foreign-archive")
def test_the_commands_and_the_verification_refuse_a_foreign_archive_alike(kept, capsys):
    with_study(kept, _other_run)
    with pytest.raises(AfmpError, match="victim"):
        applies_to(resolve_study(small_config()), kept)
    assert main(["expect", str(kept)]) == 2
    said = capsys.readouterr().err
    assert "study.json: runs/../../../victim is not in config.yaml" in said and len(said.splitlines()) == 1
    assert not (kept / "expected.yaml").exists()


# Archives that are as they should be


@pytest.mark.parametrize("name", [manifest.parent.name for manifest in PROJECT.glob("archive/*/MANIFEST.json")])
def test_every_archive_of_this_project_is_read_whole(name):
    """If a key is added to the configuration, this says that these archives need the release that wrote them."""
    opened = open_archive(PROJECT / "archive" / name)
    contents = opened.read_records(list(opened.records))
    assert contents.keys() == opened.records.keys()
    for semantics in opened.study.semantics:
        assert list(of_sweep(contents[scalability_file(semantics)], opened.study.scalability)) == []
    assert read_expected(opened.folder / "expected.yaml") == ranges_of(opened.folder)


def test_an_archive_is_read_on_a_machine_with_another_home_and_without_the_images(tmp_path, monkeypatch):
    images = tmp_path / "home/alice/my images"
    for split in ("train", "test"):
        (images / split / "cat").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home/alice"))
    dataset = {"source": "folder", "path": "~/my images", "image_size": 32}
    made = tmp_path / "made"
    config = small_config() | {"dataset": dataset}
    fill_results(made / "results", resolve_study(config))
    (made / "results/prepare_data/digits.safetensors").rename(made / "results/prepare_data/folder.safetensors")
    write_archive(config, results=made / "results", archive=made / "archive")
    assert str(images) in (made / "archive/study.json").read_text()
    assert applies_to(resolve_study(config), made / "archive")
    monkeypatch.setenv("HOME", str(tmp_path / "home/bob"))
    shutil.rmtree(tmp_path / "home")
    opened = open_archive(made / "archive")
    assert opened.study.dataset.path == "~/my images"
    assert opened.read_records([RESULT])[RESULT]["config"]["dataset"]["path"] == str(images)
    with_study(made / "archive", lambda study: study["dataset"].update(path="/etc/passwd"))
    with pytest.raises(AfmpError, match=r"dataset/path is '/etc/passwd', but config\.yaml gives '~/my images'"):
        archived_study(made / "archive")
