"""The first page of a study: verdicts, figures, tables, the sweep, diagnostics and provenance in one HTML file.

The page needs no network and no other file. Every text of the study is put in as text.
"""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml
from PIL import Image

from afmp.analysis.claim_tables import counts, hints, printed_claims
from afmp.analysis.claim_wording import measured, tested
from afmp.analysis.claims import Answered
from afmp.analysis.printed_tables import PrintedTable
from afmp.analysis.tables import Tables, run_tables, sweep_tables
from afmp.analysis.wording import SEMANTICS_IN_WORDS, plain_text
from afmp.errors import printable
from afmp.figures.catalogue import Drawing
from afmp.files import read_plain, read_plain_text
from afmp.finished.answered_claims import answered_claims
from afmp.finished.citation import citation_content, images_to_cite, read_citation
from afmp.finished.opened_archive import OpenedArchive
from afmp.finished.page_libraries import script_of
from afmp.finished.page_provenance import archive_citation, made_with, summary_facts
from afmp.finished.page_sweep import sweep_content
from afmp.finished.results_folder import ResultsFolder
from afmp.finished.study_files import study_drawings
from afmp.records import write_text
from afmp.study.claims import resolve_claims
from afmp.study.config_file import read_config
from afmp.study.paths import (
    CLAIMS_FILE,
    NOTEBOOK_VS_PAPER,
    PARAMETERS_FILE,
    plot_diagnostics_path,
    result_files,
    scalability_file,
)
from afmp.study.semantics import AFMP_SEMANTICS
from afmp.study.study import Study, resolve_study

MAX_FIGURE_BYTES = 50_000_000
MAX_CAPTION_BYTES = 1_000_000
# A study may have hundreds of diagnostics pictures, and they are all in one page.
DIAGNOSTICS_WIDTH = 1200
DIAGNOSTICS_QUALITY = 65  # of WebP, which then takes a sixth of the bytes of the PNG


@dataclass(frozen=True)
class Inputs:
    """What the page is made from, besides the records of the study.

    - claims: content of a file of claims
    - pictures: folder with the files of `drawings`
    - drawings: the figures that the page shows
    - configuration: the study's configuration, as YAML
    - citation: content of CITATION.cff; empty if there is none
    - templates: folder with index.html, index.css and index.js
    """

    claims: dict
    pictures: Path
    drawings: Sequence[Drawing]
    configuration: str
    citation: str
    templates: Path


def inputs_of(project: Path | str, **others) -> Inputs:
    """Return inputs with the templates and the citation of this project's folder, and `others` as the other fields."""
    return Inputs(citation=read_citation(project), templates=Path(project, "report"), **others)


def write_first_page(path: Path | str, opened: ResultsFolder | OpenedArchive, inputs: Inputs) -> None:
    """Write the first page of a study atomically to `path`.

    Raises AfmpError for a record or a figure that is missing, not valid, or of another study.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(inputs.templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # keys as they are: Bokeh reads a chart in the order of its keys
    write_text(path, environment.get_template("index.html").render(page_content(opened, inputs)))


def write_page_of_results(path: Path | str, config: dict, *, results: Path | str, project: Path | str) -> None:
    """Write the first page of the finished study of a configuration, whose files are below `results`, to `path`.

    project: folder with the templates and the citation. Raises AfmpError as `write_first_page`.
    """
    study = resolve_study(config)
    inputs = inputs_of(
        project,
        claims=read_config(Path(results, CLAIMS_FILE)),
        pictures=Path(results),
        drawings=study_drawings(study),
        configuration=configuration_text(config),
    )
    write_first_page(path, ResultsFolder(Path(results), study), inputs)


def configuration_text(config: dict) -> str:
    """Return a configuration as YAML, with only the name of the folder of images: others read it, too."""
    path = config["dataset"]["path"]
    shown = config | {"dataset": config["dataset"] | {"path": path and Path(path).name}}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def page_content(opened: ResultsFolder | OpenedArchive, inputs: Inputs) -> dict:
    """Return what the page shows, in plain values and texts that are not escaped yet."""
    study = opened.study
    paths = [path for semantics, run in study.trainings for path in result_files(semantics, [run], study.seeds)]
    results = list(opened.read_records(paths).values())
    answers = answered_claims(resolve_claims(inputs.claims), opened)
    figures = {drawing.path: _figure(drawing, inputs.pictures) for drawing in _plain(inputs.drawings)}
    tables = run_tables(results, study.studies)
    sweeps, sweep = [], None
    if study.scalability:
        sweeps = list(opened.read_records([scalability_file(one) for one in study.swept_semantics]).values())
        (parameters,) = opened.read_records([PARAMETERS_FILE]).values()
        sweep = sweep_content(sweeps, sweep_tables(sweeps, parameters), figures)
    return {
        "title": f"AFMP on {results[0]['dataset']['name']}",
        "semantics": [
            (name, SEMANTICS_IN_WORDS[name]) for name in dict.fromkeys(each["semantics"] for each in results)
        ],
        "facts": summary_facts(study, results),
        "counts": counts(answers),
        "cards": _cards(answers.answered, figures),
        "hints": hints(answers),
        "claim_tables": [_table(table) for table in printed_claims(answers)[1:]],
        "sections": _sections(study, tables, figures),
        "sweep": sweep,
        "tables_library": script_of("itables"),
        "diagnostics": _diagnostics(study, inputs),
        "made": made_with([*results, *sweeps]),
        "configuration": printable_lines(inputs.configuration),
        "archive": archive_citation(opened, results) if isinstance(opened, OpenedArchive) else "",
        "citation": citation_content(inputs.citation),
        "images": images_to_cite(results[0]["config"]["dataset"]["source"], results[0]["dataset"]["name"]),
    }


def printable_lines(text: str) -> str:
    """Return a text of several lines without characters that a page cannot show."""
    return "\n".join(map(printable, text.splitlines()))


def _plain(drawings: Iterable[Drawing]) -> list[Drawing]:
    """Return the figures without diagnostics, `paper` before `notebook`."""
    order = {name: place for place, name in enumerate(AFMP_SEMANTICS)}
    chosen = [drawing for drawing in drawings if drawing.name != "diagnostics"]
    return sorted(chosen, key=lambda drawing: order.get(drawing.path.split("/")[1], len(order)))


def _figure(drawing: Drawing, folder: Path) -> dict:
    semantics = drawing.path.split("/")[1]
    content = read_plain(folder / f"{drawing.path}.png", max_bytes=MAX_FIGURE_BYTES)
    return {
        "id": _id(drawing.path),
        "name": drawing.name,
        "semantics": semantics if semantics in AFMP_SEMANTICS else "paper and notebook",
        "image": _data("image/png", content),
        "caption": _caption(folder / f"{drawing.path}.rst"),
    }


def _id(path: str) -> str:
    return re.sub(r"\W", "-", path)


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _caption(path: Path) -> str:
    return plain_text(read_plain_text(path, max_bytes=MAX_CAPTION_BYTES))


def _table(table: PrintedTable) -> dict:
    return {
        "caption": table.caption,
        "header": table.header,
        "rows": [cells for group in table.groups for cells in group],
    }


def _cards(answered: Sequence[Answered], figures: dict[str, dict]) -> list[dict]:
    """Return a card per claim, with a verdict per semantics."""
    cards: dict[str, dict] = {}
    for one in answered:
        card = cards.setdefault(one.claim.name, {"words": one.claim.words, "tested": tested(one.claim), "verdicts": []})
        figure = figures.get(one.figure.removesuffix(".png"))
        card["verdicts"].append(
            {
                "semantics": one.semantics,
                "verdict": one.verdict,
                "measured": measured(one),
                "figure": figure["id"] if figure else None,
                "command": one.command,
            }
        )
    return list(cards.values())


def _sections(study: Study, tables: Tables, figures: dict[str, dict]) -> list[dict]:
    sections = []
    for table in study.studies:
        name = table["name"]
        own = [figure for path, figure in figures.items() if Path(path).name == table["figure"]]
        printed = [
            (words, _table(one))
            for kind, words in (("summary", "Accuracies"), ("differences", "Differences from the reference"))
            for one in tables[kind].printed
            if one.name == f"{kind}_{name}"
        ]
        title = f"{table['section']} {table['title']}".strip()
        sections.append({"id": f"study-{_id(name)}", "title": title, "figures": own, "tables": printed})
    if NOTEBOOK_VS_PAPER in figures:
        title = "The same runs under paper and notebook semantics"
        sections.append({"id": "compared", "title": title, "figures": [figures[NOTEBOOK_VS_PAPER]], "tables": []})
    return sections


def _diagnostics(study: Study, inputs: Inputs) -> list[dict]:
    """Return the pictures of each run by epoch."""
    drawn = {drawing.path for drawing in inputs.drawings}
    runs = []
    for semantics, run in study.trainings:
        paths = {
            epoch: path
            for epoch in study.runs[run].visualized_epochs
            if (path := plot_diagnostics_path(semantics, run, epoch)) in drawn
        }
        if paths:
            pictures = [
                {
                    "epoch": epoch,
                    "image": _small_picture(inputs.pictures / f"{path}.png"),
                    "caption": _caption(inputs.pictures / f"{path}.rst"),
                }
                for epoch, path in sorted(paths.items())
            ]
            runs.append({"name": f"{run}, {semantics}", "pictures": pictures})
    return runs


def _small_picture(path: Path) -> str:
    with Image.open(io.BytesIO(read_plain(path, max_bytes=MAX_FIGURE_BYTES)), formats=["PNG"]) as image:
        picture = image.convert("RGB")
    picture.thumbnail((DIAGNOSTICS_WIDTH, 4 * DIAGNOSTICS_WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=DIAGNOSTICS_QUALITY)
    return _data("image/webp", buffer.getvalue())
