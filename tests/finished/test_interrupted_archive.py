"""Archiving and drawing that are killed again and again get on, and end as if they were undisturbed."""

import functools
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archived_study import small_config, write_small_archive
from conftest import PROJECT

from afmp.cli import main
from afmp.errors import AfmpError
from afmp.figures.catalogue import Drawing
from afmp.finished import archive as archive_module
from afmp.finished.archive import write_archive
from afmp.finished.archive_figures import archive_drawings, draw_archive
from afmp.finished.opened_archive import archived_study, open_archive
from afmp.records import atomic_path, remove_leftovers, write_text


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with results/ of a small study of one semantics, and archive/ of it."""
    folder = tmp_path_factory.mktemp("made")
    write_small_archive(folder, semantics=["paper"])
    return folder


@pytest.fixture
def results(made, tmp_path) -> Path:
    """Finished results that a test may change."""
    return Path(shutil.copytree(made / "results", tmp_path / "results"))


CONFIG = small_config() | {"semantics": ["paper"]}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed(work, *, after: int, below: Path, renamed: bool = False) -> bool:
    """Call `work` in a process that is killed in its last write: when it has written `after` files below a folder.

    renamed: kill it after the file has its name. Returns whether it ended before.
    """
    replace, done = os.replace, []

    def counting(source, target):
        if below in Path(target).parents:
            done.append(target)
        if len(done) > after and not renamed:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)
        if len(done) > after:
            os.kill(os.getpid(), signal.SIGKILL)

    def run():
        os.replace = counting
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


@pytest.mark.promise("killed-archive-gets-on")
@pytest.mark.parametrize("renamed", [False, True])
def test_an_archive_that_is_killed_in_every_few_files_is_finished(made, tmp_path, renamed):
    target, moments = tmp_path / "archive", random.Random(0)

    def work() -> None:
        write_archive(CONFIG, results=made / "results", archive=target)

    restarts = 0
    while not killed(work, after=moments.randrange(1, 12), below=target, renamed=renamed):
        restarts += 1
        assert restarts < 20 and len(contents(target)) >= restarts
    assert restarts > 2 and contents(target) == contents(made / "archive")


@pytest.mark.promise("killed-archive-gets-on")
def test_an_archive_that_is_killed_after_its_manifest_is_accepted_and_another_one_refused(made, results, tmp_path):
    target = tmp_path / "archive"
    for renamed in (False, True):
        shutil.rmtree(target, ignore_errors=True)

        def work() -> None:
            write_archive(CONFIG, results=results, archive=target)

        assert not killed(work, after=len(contents(made / "archive")) - 1, below=target, renamed=renamed)
        assert (target / "MANIFEST.json").exists() == renamed
        work()
        assert contents(target) == contents(made / "archive")
    before = contents(target)
    other = CONFIG | {"training": CONFIG["training"] | {"crop_padding": 3}}
    with pytest.raises(AfmpError, match=r"archive: already an archive, in which config\.yaml differs"):
        write_archive(other, results=results, archive=target)
    (results / "aggregate/summary.csv").write_text("a,b\n1,3\n")
    with pytest.raises(AfmpError, match=r"archive: already an archive, in which aggregate/summary\.csv differs"):
        write_archive(CONFIG, results=results, archive=target)
    (target / "MANIFEST.json").unlink()
    with pytest.raises(AfmpError, match=r"aggregate/summary\.csv: there already, and differs from this study's"):
        write_archive(CONFIG, results=results, archive=target)
    assert contents(target) == {path: content for path, content in before.items() if path != "MANIFEST.json"}


@pytest.mark.promise("killed-archive-gets-on")
def test_an_unfinished_archive_is_called_so_and_the_command_that_goes_on_is_named(made, results, tmp_path, capsys):
    target, said = (
        tmp_path / "archive",
        r"archive: no finished archive: it has {}, but no MANIFEST\.json, which is written ",
    )
    goes_on = f"`afmp archive RESULTS {target}`, with the results folder of its finished study, goes on from it."
    assert not killed(lambda: write_archive(CONFIG, results=results, archive=target), after=9, below=target)
    assert main(["compare", str(target), "top_down_refinement"]) == 2
    assert re.search(said.format(r"study\.json"), line := capsys.readouterr().err) and goes_on in line
    with pytest.raises(AfmpError, match=said.format(r"study\.json")):
        open_archive(target)
    (target / "study.json").unlink()  # as a folder into which results were copied by hand
    with pytest.raises(AfmpError, match=said.format("train")):
        open_archive(target)
    write_text(results / "logs/train.log", "")
    with pytest.raises(AfmpError, match="results: no archive there"):
        open_archive(results)


@pytest.mark.promise("killed-archive-gets-on")
@pytest.mark.parametrize("path", ["config.yaml", "Snakefile", "train/weights.bin", "test_images/me.png", "notes/todo"])
def test_a_folder_with_a_file_of_somebody_else_is_refused_untouched(made, tmp_path, path):
    write_text(tmp_path / "archive" / path, "mine")
    before = contents(tmp_path)
    with pytest.raises(AfmpError, match="archive"):
        write_archive(CONFIG, results=made / "results", archive=tmp_path / "archive")
    assert contents(tmp_path) == before


def test_a_page_written_by_hand_may_be_there_before(made, tmp_path):
    write_text(tmp_path / "archive/README.md", "What ran.")
    write_archive(CONFIG, results=made / "results", archive=tmp_path / "archive")
    assert contents(tmp_path / "archive") == contents(made / "archive") | {"README.md": b"What ran."}


def test_an_archive_that_could_not_be_read_is_not_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_CONFIG_BYTES", 100)
    with pytest.raises(AfmpError, match=r"config\.yaml: cannot be archived: [\d,]+ bytes, of which at most 100 are"):
        write_archive(CONFIG, results=made / "results", archive=tmp_path / "archive")
    monkeypatch.undo()
    monkeypatch.setattr(archive_module, "MAX_FILES", 5)
    with pytest.raises(AfmpError, match=r"an archive has at most 5"):
        write_archive(CONFIG, results=made / "results", archive=tmp_path / "archive")
    assert not (tmp_path / "archive/MANIFEST.json").exists()


@pytest.fixture
def quick_drawing(monkeypatch) -> None:
    """Each file of a figure is a line: its name, and the numbers that it shows."""

    def draw(drawing: Drawing, contents, read_image, *, folder) -> None:
        for file in drawing.files:
            write_text(folder / file, f"{file} {drawing.settings} {[contents[path] for path in drawing.sources]}")

    monkeypatch.setattr(Drawing, "write_from", draw)


@pytest.mark.promise("killed-archive-gets-on")
def test_drawing_that_is_killed_in_every_figure_draws_each_once(made, tmp_path, quick_drawing):
    undisturbed, drawn, finished = (tmp_path / name for name in ("undisturbed", "drawn", "finished"))
    draw_archive(made / "archive", undisturbed, finished=tmp_path / "other")
    figures = [path for path in contents(undisturbed) if path.endswith(".rst")]
    moments = random.Random(0)
    restarts = 0

    def work() -> None:
        draw_archive(made / "archive", drawn, finished=finished)

    # A figure has two or three files, so each call finishes one at least.
    while not killed(work, after=moments.randrange(3, 6), below=finished):
        restarts += 1
        assert restarts < len(figures) and not drawn.exists()
    assert restarts > 2 and contents(drawn) == contents(undisturbed)
    assert not list(finished.rglob("*.part"))

    # What is finished is kept as long as what it is made from is the same.
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    shutil.rmtree(drawn)
    work()
    assert contents(drawn) == contents(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == times


def test_a_kept_figure_is_not_used_for_other_records_or_code(made, tmp_path, quick_drawing, monkeypatch):
    drawn, finished = tmp_path / "drawn", tmp_path / "finished"
    draw_archive(made / "archive", drawn, finished=finished)
    places = {path.name for path in finished.iterdir()}
    other = write_small_archive(tmp_path / "other", semantics=["paper"], seeds=[0])
    draw_archive(other, drawn, finished=finished)
    # Those over the test image have the same records.
    kept = places & {path.name for path in finished.iterdir()}
    assert kept and all(name.startswith(("scalability", "diagnostics", "epoch")) for name in kept)
    monkeypatch.setattr("afmp.finished.archive_figures.source_hash", lambda files: "edited")
    draw_archive(other, drawn, finished=finished)
    assert not kept & {path.name for path in finished.iterdir()}


@pytest.mark.promise("killed-archive-gets-on")
def test_parts_of_killed_writers_are_removed_where_nothing_is_written_again(tmp_path):
    inner = tmp_path / "results/figures/paper"
    inner.mkdir(parents=True)

    def work() -> None:
        with atomic_path(inner / "small.png") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert len(list(inner.glob(".small.png.*.part"))) == 1
    (inner / ".mine.part").mkdir()
    with atomic_path(tmp_path / "results/slow.txt") as temporary:
        temporary.write_text("slow")
        remove_leftovers(tmp_path / "results")
        assert temporary.exists()
    assert sorted(inner.iterdir()) == [inner / ".mine.part"]


@pytest.mark.long
@pytest.mark.promise("killed-archive-gets-on")
def test_restarts_of_a_few_seconds_finish_the_archived_figures(tmp_path):
    """Whole processes, with their imports, on the archived study of this project.

    The kernel kills each after 4 or more seconds of the processor, so that other work on the machine does not count.
    """
    archive = sorted((PROJECT / "archive").glob("*/MANIFEST.json"))[-1].parent
    code = (
        "import sys; from afmp.finished.archive_figures import draw_archive; "
        "draw_archive(sys.argv[1], sys.argv[2], finished=sys.argv[3])"
    )
    command = [sys.executable, "-c", code, str(archive), str(tmp_path / "drawn"), str(tmp_path / "finished")]
    restarts, killed = 0, True
    while killed:
        assert restarts < 60
        # Drawing all takes over 20 seconds, so no call draws all that is there.
        seconds = min(4 + restarts // 8, 11)
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_CPU, (seconds, seconds))
        done = subprocess.run(command, cwd=PROJECT, preexec_fn=limit, capture_output=True, text=True)
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0, done.stderr
        restarts += killed
    figures = {file for drawing in archive_drawings(archived_study(archive)) for file in drawing.files}
    assert restarts > 1 and contents(tmp_path / "drawn").keys() == figures
    assert not list(tmp_path.rglob("*.part"))


LINKS = {
    "of records": "train",
    "of figures": "figures",
    "config.yaml": "config.yaml",
    "to nothing": "study.json",
}


@pytest.mark.promise("killed-archive-gets-on")
@pytest.mark.parametrize("kind", LINKS)
def test_nothing_is_written_through_a_link_in_an_archive(results, tmp_path, kind):
    archive, elsewhere = tmp_path / "archive", tmp_path / "elsewhere"
    archive.mkdir()
    (archive / LINKS[kind]).symlink_to(elsewhere)
    if kind != "to nothing":
        elsewhere.write_text("theirs") if "." in LINKS[kind] else elsewhere.mkdir()
    before = contents(tmp_path)
    with pytest.raises(AfmpError, match=f"{LINKS[kind]}: is a link, but an archive contains only files"):
        write_archive(CONFIG, results=results, archive=archive)
    assert contents(tmp_path) == before


NO_DATASETS = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "empty": Path.touch,
    "header of 90 MB": lambda path: path.write_bytes((90_000_000).to_bytes(8, "little") + bytes(90_000_000)),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NO_DATASETS)
def test_what_is_no_dataset_is_refused_when_its_test_image_is_archived(results, tmp_path, kind):
    dataset = results / "prepare_data/digits.safetensors"
    dataset.unlink()
    NO_DATASETS[kind](dataset)
    with pytest.raises(AfmpError, match=r"prepare_data/digits\.safetensors: (is a|damaged)"):
        write_archive(CONFIG, results=results, archive=tmp_path / "archive")
