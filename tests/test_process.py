"""How a process starts and ends: in any locale, and with one sentence after a signal, also while it still imports."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT
from image_folders import make_image_folder
from workflow_runs import SMALL, copy_project, start_snakemake, write_study

from afmp.data.dataset import load_dataset

SCRIPTS = sorted((PROJECT / "workflow_scripts").glob("*.py"))
SENTENCES = {
    signal.SIGINT: "interrupted; run the same command again to resume.",
    signal.SIGTERM: "stopped by SIGTERM; run the same command again to resume.",
}
SLEEP = "print('imports', flush=True); time.sleep(60)"
# As a library does whose C code cannot go on without what was interrupted, or whose import catches every exception.
OTHER_ERROR = (
    f"try:\n    {SLEEP}\nexcept BaseException:\n    raise ImportError('numpy.core failed to import') from None"
)
SWALLOWED = f"try:\n    {SLEEP}\nexcept BaseException:\n    {SLEEP}"


def slow_libraries(folder: Path, sleep: str) -> dict[str, str]:
    """Return an environment in which the import of each large library takes long, and says so."""
    for name in ("numpy", "torch", "yaml", "jsonschema"):
        (folder / f"{name}.py").write_text(f"import time\n{sleep}\n")
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{PROJECT}"}


def script_command(script: Path, folder: Path) -> list[str]:
    """Write the script as Snakemake runs it, with the object `snakemake` before it."""
    job = folder / f"job.{script.name}"
    start = f"import types; snakemake = types.SimpleNamespace(log=[{str(folder / 'job.log')!r}])\n"
    job.write_text(start + script.read_text(encoding="utf-8"))
    return [sys.executable, str(job)]


def interrupted(command: list[str], folder: Path, *signals: int, sleep: str = SLEEP) -> tuple[int, str]:
    """Send each signal once the process says that it imports; return its exit code and standard error."""
    environment = slow_libraries(folder, sleep)
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for number in signals:
        assert process.stdout.readline() == "imports\n", process.communicate()[1]
        process.send_signal(number)
    return process.wait(30), process.communicate()[1]


@pytest.mark.promise("ctrl-c-ends-with-a-sentence")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_ctrl_c_ends_a_script_that_still_imports_with_a_sentence(script, tmp_path):
    code, said = interrupted(script_command(script, tmp_path), tmp_path, signal.SIGINT)
    assert (code, said) == (130, f"{SENTENCES[signal.SIGINT]}\n")
    assert (tmp_path / "job.log").read_text().endswith(f"  {SENTENCES[signal.SIGINT]}\n")


@pytest.mark.promise("ctrl-c-ends-with-a-sentence")
@pytest.mark.parametrize("number", SENTENCES)
@pytest.mark.parametrize("sleep", [SLEEP, OTHER_ERROR], ids=["interrupted", "another error"])
def test_a_signal_ends_a_command_that_still_imports_with_a_sentence(number, sleep, tmp_path):
    command = [sys.executable, "-m", "afmp.cli", "parameters"]
    code, said = interrupted(command, tmp_path, number, sleep=sleep)
    assert code == 128 + number and said.endswith(f": {SENTENCES[number]}\n") and said.count("\n") == 1
    code, said = interrupted(script_command(SCRIPTS[0], tmp_path), tmp_path, number, sleep=sleep)
    assert (code, said) == (128 + number, f"{SENTENCES[number]}\n")


@pytest.mark.promise("ctrl-c-ends-with-a-sentence")
def test_a_second_signal_ends_an_import_that_swallows_the_first(tmp_path):
    command = script_command(SCRIPTS[0], tmp_path)
    code, said = interrupted(command, tmp_path, signal.SIGINT, signal.SIGINT, sleep=SWALLOWED)
    assert (code, said) == (-signal.SIGINT, "")


# ---------------------------------------------------------------------------- locales

LOCALES = {
    "ASCII": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Latin-1 output": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"},
}
CLASSES = ("Apfel", "zèbre 斑马")


@pytest.fixture
def study(tmp_path):
    """A copy of the project in a folder with a foreign name, with images whose names are foreign too."""
    (tmp_path / "日 ü").mkdir()
    folder = copy_project(tmp_path / "日 ü")
    images = make_image_folder(folder)
    write_study(folder, SMALL | {"dataset": {"source": "folder", "path": str(images), "image_size": 32}})
    return folder


@pytest.mark.promise("any-locale")
@pytest.mark.parametrize("locale", LOCALES.values(), ids=LOCALES)
def test_a_command_reads_names_as_utf8_in_every_locale(locale, study):
    command = [sys.executable, "-m", "afmp.cli", "prepare", "--config", "config.yaml", "--output", "ü 斑.safetensors"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | locale
    done = subprocess.run(command, cwd=study, env=environment, capture_output=True)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert load_dataset(study / "ü 斑.safetensors").class_names == CLASSES


@pytest.mark.promise("any-locale")
def test_the_workflow_reads_names_as_utf8_in_every_locale(study):
    target = "results/prepare_data/folder.safetensors"
    process = start_snakemake(
        study, target, "--directory", "wörk", environment=LOCALES["Latin-1 output"], errors="replace"
    )
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert load_dataset(study / "wörk" / target).class_names == CLASSES


@pytest.mark.promise("any-locale")
@pytest.mark.parametrize("program", ["afmp.cli", "snakemake"])
def test_a_locale_that_cannot_be_changed_is_named_in_one_sentence(program, study):
    words = ["parameters"] if program == "afmp.cli" else ["-n", "--cores", "1"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | LOCALES["ASCII"]
    command = [sys.executable, "-X", "utf8=0", "-m", program, *words]
    done = subprocess.run(command, cwd=study, env=environment, capture_output=True)
    assert done.returncode in (1, 2) and b"Traceback" not in done.stderr
    assert b"locale: Python reads the names of files as ascii here; set PYTHONUTF8=1" in done.stdout + done.stderr


# ---------------------------------------------------------------------------- settings of Snakemake

# In place of Snakemake: writes what it was called with where the report belongs.
FAKE_SNAKEMAKE = """
import json, os, pathlib, sys
report = pathlib.Path(sys.argv[sys.argv.index("--report") + 1])
report.write_text(json.dumps([sys.argv, dict(os.environ), os.getcwd()]))
"""


@pytest.mark.promise("own-settings-of-snakemake")
def test_the_snakemake_that_writes_the_report_inherits_no_settings_of_a_person(tmp_path):
    (tmp_path / "snakemake").mkdir()
    (tmp_path / "snakemake/__init__.py").touch()
    (tmp_path / "snakemake/__main__.py").write_text(FAKE_SNAKEMAKE)
    job = "snakemake = types.SimpleNamespace(log=['log'], config={'seeds': [0]})\n"
    job += "snakemake.output = types.SimpleNamespace(page='page', report='report')\n"
    # There is no study here to verify or to draw: what follows is about the call of Snakemake alone.
    places = {"project": str(PROJECT), "prefix": "", "results": "results"}
    job += f"snakemake.params = types.SimpleNamespace(dataset=None, places={places!r})\n"
    job += "import afmp.finished.unverified as room\nroom.refuse_unverified = lambda *_, **__: None\n"
    job += "import afmp.finished.first_page as room\nroom.write_page_of_results = lambda *_, **__: None\n"
    script = (PROJECT / "workflow_scripts/report.py").read_text(encoding="utf-8")
    (tmp_path / "job.py").write_text(f"import types\n{job}{script}")
    person = {"SNAKEMAKE_PROFILE": "slurm", "SNAKEMAKE_SLURM_PARTITION": "gpu", "SNAKEMAKE_OUTPUT_CACHE": "/cache"}
    environment = os.environ | person | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}
    subprocess.run([sys.executable, "job.py"], cwd=tmp_path, env=environment, check=True)
    words, environment, where = json.loads((tmp_path / "report").read_text())
    assert not [name for name in environment if name.startswith("SNAKEMAKE")] and environment["PATH"]
    assert environment["TMPDIR"] == str(Path(words[words.index("--report") + 1]).parent)
    for option in ("--profile", "--workflow-profile"):
        assert words[words.index(option) + 1] == "none"
    assert words[words.index("--snakefile") + 1] == str(PROJECT / "Snakefile") and Path(where) == tmp_path
