"""What `snakemake verify` asks of a finished study: every file there and valid, and none that contradicts another.

Nothing is made or mended. A missing file is a fault like any other, and each fault names its file.
"""

import csv
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import pandas

from afmp.analysis.parameter_table import parameters_table
from afmp.analysis.study_tables import differences_table, epochs_table, summary_table
from afmp.analysis.sweep_tables import fits_table, ratios_table, scalability_table
from afmp.analysis.table_files import write_csv
from afmp.data.dataset import load_dataset
from afmp.errors import AfmpError
from afmp.figures.catalogue import figures
from afmp.finished import contradictions
from afmp.finished.archive import study_records
from afmp.finished.expected import EXPECTED, applies_to, broken_ranges, read_expected
from afmp.model.sizes import build_model
from afmp.study.paths import TABLES, diagnostics_file, result_file, result_files, scalability_file, weights_file
from afmp.study.study import Study, resolve_study

SHOWN_FAULTS = 3  # of one check
PARAMETERS = "count_parameters/parameters.json"


@dataclass(frozen=True)
class Check:
    """What was looked at, and a sentence for each thing that is wrong with it; None where it does not apply."""

    what: str
    faults: list[str] | None


def verify(
    config: dict,
    *,
    results: Path | str,
    dataset: Path | str,
    archives: Sequence[Path | str],
    say: Callable[[str], None] = print,
) -> None:
    """Check what the study `config` left in the folder `results`: say PASS, FAIL or SKIP for each check, and the count.

    dataset: the prepared file. archives: the folders whose archives' expected.yaml hold where the study is theirs.
    Raises AfmpError with the count if anything fails.
    """
    passed, failed = 0, 0
    study, folders = resolve_study(config), list(map(Path, archives))
    for check in checks(study, Path(results), dataset=Path(dataset), archives=folders):
        if check.faults is None:
            say(f"SKIP  {check.what}")
            continue
        say(f"FAIL  {check.what}: {_reason(check.faults)}" if check.faults else f"PASS  {check.what}")
        passed, failed = passed + (not check.faults), failed + bool(check.faults)
    say(f"{passed + failed} checks: {passed} passed, {failed} failed")
    if failed:
        raise AfmpError(
            f"{results}: {failed} of {passed + failed} checks failed; each FAIL names a file, and what is deleted "
            "`snakemake all` makes again."
        )


def _reason(faults: list[str]) -> str:
    more = len(faults) - SHOWN_FAULTS
    told = [fault.rstrip(".") for fault in faults[:SHOWN_FAULTS]]
    return "; ".join(told + [f"and {more} more"] * (more > 0))


def checks(study: Study, results: Path, *, dataset: Path, archives: list[Path]) -> Iterator[Check]:
    """Every check of a study, in the order in which its files depend on one another."""
    contents, faults = _read_records(study, results)

    def of(paths: list[str]) -> list[str]:
        return [fault for path in paths for fault in faults[path]]

    for semantics, run in product(study.semantics, study.runs):
        where = f"{run} [{semantics}], {len(study.seeds)} seeds"
        gates = [diagnostics_file(semantics, run, seed) for seed in study.seeds]
        yield Check(f"results of {where}", of(result_files(semantics, [run], study.seeds)))
        yield Check(f"diagnostics of {where}", of(gates))
        yield Check(f"weights of {where}", list(_weights_faults(study, results, contents, semantics, run)))
    for semantics in study.semantics:
        yield Check(f"sweep [{semantics}]", of([scalability_file(semantics)]))
    yield Check("parameter counts", of([PARAMETERS]))
    yield from _hash_checks(study, results, contents, dataset)
    yield from _figure_checks(study, results)
    yield from _table_checks(study, results, contents, faults)
    yield from _expected_checks(study, contents, faults, archives)


def _read_records(study: Study, results: Path) -> tuple[dict[str, dict], dict[str, list[str]]]:
    """Contents of the records that are valid, and the faults of every record, both by path below results/."""
    contents, faults = {}, {}
    for path, read in study_records(study).items():
        try:
            contents[path] = read(results / path)
            faults[path] = [f"{results / path}: {one}" for one in contradictions.of_record(contents[path], path, study)]
        except AfmpError as error:
            faults[path] = [str(error)]
    return contents, faults


def _weights_faults(study: Study, results: Path, contents: dict, semantics: str, run: str) -> Iterator[str]:
    model = None
    for seed in study.seeds:
        result = contents.get(result_file(semantics, run, seed))
        if result is None:
            yield f"seed {seed}: not checked, for want of a valid result"
            continue
        num_classes = result["dataset"]["num_classes"]
        model = model or build_model(study.runs[run], semantics=semantics, num_classes=num_classes)
        for name, epoch in (("best", result["best_epoch"]), ("final", study.runs[run].training.epochs)):
            path = results / weights_file(semantics, run, seed, name)
            about = {"run": run, "semantics": semantics, "seed": seed, "epoch": epoch}
            yield from (f"{path}: {one}" for one in contradictions.of_weights(path, model, about, result))


def _hash_checks(study: Study, results: Path, contents: dict, dataset: Path) -> Iterator[Check]:
    trained = {path: content for path, content in contents.items() if "scaffold_hash" in content}
    datasets = {path: result["dataset"]["hash"] for path, result in trained.items()}
    yield Check(f"one dataset hash in {len(datasets)} results", _unlike_most(datasets, results))
    try:
        found = load_dataset(dataset).hash
        others = sorted(set(datasets.values()) - {found})
        faults = [f"{dataset}: its hash is {found[:12]}, a result says {other[:12]}" for other in others]
    except AfmpError as error:
        faults = [str(error)]
    yield Check("the dataset file is the one trained on", faults)
    scaffolds: dict[tuple, dict[str, str]] = {}
    for path, result in trained.items():
        config = study.runs[path.split("/")[2]]
        window = config.model.window_size if config.model.scaffold == "window" else None
        which = (config.model.scaffold, window, config.dataset.image_size, config.model.patch_size)
        scaffolds.setdefault(which, {})[path] = result["scaffold_hash"]
    for (kind, window, image_size, patch_size), hashes in scaffolds.items():
        name = kind if window is None else f"{kind} {window}"
        what = f"one scaffold hash in {len(hashes)} results ({name}, {image_size} px, patches of {patch_size} px)"
        yield Check(what, _unlike_most(hashes, results))


def _unlike_most(hashes: dict[str, str], results: Path) -> list[str]:
    if not hashes:
        return ["no result to read it from"]
    common, count = Counter(hashes.values()).most_common(1)[0]
    return [
        f"{results / path}: {found[:12]}, but {common[:12]} in {count} of {len(hashes)} results"
        for path, found in hashes.items()
        if found != common
    ]


def _figure_checks(study: Study, results: Path) -> Iterator[Check]:
    drawn = {drawing.path: (drawing.files, drawing.sources) for drawing in figures(asdict(study))}
    for semantics, (run, config) in product(study.semantics, study.runs.items()):
        folder = f"plot_diagnostics/{semantics}/{run}"
        epochs = config.training.visualized_epochs
        files = [f"{folder}/epoch_{epoch:04d}.{ending}" for epoch in epochs for ending in ("png", "rst")]
        drawn[folder] = (files, [diagnostics_file(semantics, run, study.seeds[0])])
    for what, (files, sources) in drawn.items():
        yield Check(f"{what}, newer than its data", _older(files, sources, results))


def _older(files: list[str], sources: list[str], results: Path) -> list[str]:
    """Faults of files that are missing, or older than the newest of their sources that is there."""
    times = {path: (results / path).stat().st_mtime_ns for path in sources if (results / path).is_file()}
    newest = max(times, key=times.get, default=None)
    faults = [f"{results / file}: no such file" for file in files if not (results / file).is_file()]
    for file in files:
        if newest and (results / file).is_file() and (results / file).stat().st_mtime_ns < times[newest]:
            faults.append(
                f"{results / file}: older than {results / newest}; delete it, and `snakemake all` draws it again"
            )
    return faults


def _table_checks(study: Study, results: Path, contents: dict, faults: dict) -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as scratch:
        for table in TABLES:
            written, again = results / f"aggregate/{table}.csv", Path(scratch) / f"{table}.csv"
            measured = [PARAMETERS, *map(scalability_file, study.semantics)]
            sources = _trained(faults) if table in ("epochs", "summary", "differences") else measured
            broken = [path for path in sources if faults[path]]
            if broken:
                which = f"{len(broken)} of its {len(sources)} sources failed, first {results / broken[0]}"
                found = [f"{written}: not computed again, for {which}"]
            else:
                write_csv(_recompute(table, study, [contents[path] for path in sources]), again)
                found = _different_cells(written, again)
            yield Check(f"table {table}, computed again", found)


def _recompute(table: str, study: Study, sources: list[dict]) -> pandas.DataFrame:
    """A table of results/aggregate from its records, as workflow_scripts/ makes it; parameter counts come first."""
    if table == "epochs":
        return epochs_table(sources)
    if table in ("summary", "differences"):
        return {"summary": summary_table, "differences": differences_table}[table](sources, study.studies)
    parameters, *sweeps = sources
    if table == "parameters":
        return parameters_table(parameters)
    of_sweep = {"scalability": scalability_table, "scalability_ratios": ratios_table, "scalability_fits": fits_table}
    return pandas.concat(map(of_sweep[table], sweeps))


def _different_cells(written: Path, again: Path) -> list[str]:
    """The first cell in which a table is not what was computed again, as printed."""
    try:
        found, expected = (list(csv.reader(path.read_text("utf-8").splitlines())) for path in (written, again))
    except FileNotFoundError:
        return [f"{written}: no such file"]
    except (UnicodeDecodeError, csv.Error) as error:
        return [f"{written}: not a CSV file ({error})"]
    if len(found) != len(expected):
        return [f"{written}: {len(found)} lines, {len(expected)} computed from the results"]
    for line, (cells, others) in enumerate(zip(found, expected, strict=True), 1):
        if len(cells) != len(others):
            return [f"{written}: line {line} has {len(cells)} cells, {len(others)} computed from the results"]
        for column, cell, other in zip(expected[0], cells, others, strict=True):
            if cell != other:
                return [f"{written}: line {line}, {column}: {cell!r}, {other!r} computed from the results"]
    return []


def _expected_checks(study: Study, contents: dict, faults: dict, archives: list[Path]) -> Iterator[Check]:
    sound = {path: content for path, content in contents.items() if not faults[path]}
    results = [content for path, content in sound.items() if path in _trained(faults)]
    sweeps = [sound[path] for path in map(scalability_file, study.semantics) if path in sound]
    for path in sorted(path for folder in archives for path in folder.glob(f"*/{EXPECTED}")):
        try:
            expected = read_expected(path)
            if applies_to(study, path.parent):
                yield Check(f"ranges of {path}", broken_ranges(expected, results, sweeps))
            else:
                yield Check(f"ranges of {path}: this study is not the archived one", None)
        except AfmpError as error:
            yield Check(f"ranges of {path}", [str(error)])


def _trained(faults: dict[str, list[str]]) -> list[str]:
    """Paths of result files among those of all records."""
    return [path for path in faults if path.startswith("train/") and not path.endswith("diagnostics.json")]
