"""The first page: it shows all of a study, as text, and its parts that move do so in a browser."""

import base64
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from browser import opened
from conftest import PROJECT
from finished_study import CLAIMS, STUDY, TOP_DOWN, fill_results
from PIL import Image
from synthetic_results import synthetic_point, synthetic_scalability

from afmp import records
from afmp.analysis.claim_tables import COMMANDS
from afmp.analysis.claims import Answers
from afmp.analysis.tables import run_tables
from afmp.errors import AfmpError
from afmp.finished import first_page, page_sweep
from afmp.finished.answered_claims import answered_claims
from afmp.finished.citation import images_to_cite
from afmp.finished.first_page import Inputs, configuration_text, inputs_of, write_first_page
from afmp.finished.results_folder import ResultsFolder
from afmp.finished.study_files import study_drawings
from afmp.study.claims import resolve_claims
from afmp.study.paths import result_files, scalability_file
from afmp.study.study import resolve_study

SCRIPT = "</script><script>document.documentElement.setAttribute('ran',1)</script>"
IMAGE = "<img src=x onerror=\"document.documentElement.setAttribute('ran',1)\">"
PRECISIONS = {"fp32": 64, "bf16": 32}  # with the batch size of their points
LABELLED = TOP_DOWN | {"title": IMAGE, "runs": [TOP_DOWN["runs"][0], {"run": "sparse_0.3", "label": SCRIPT}]}
WORDS = f"{SCRIPT} & {{{{ 1 }}}}"


def fill_pictures(folder: Path, drawings) -> None:
    """Write a small picture of its own, and a caption, for each figure."""
    for number, drawing in enumerate(drawings):
        (folder / drawing.path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (number, 2 * number, 200)).save(folder / f"{drawing.path}.png")
        (folder / f"{drawing.path}.rst").write_text(rf"\ Caption {number} of a\_b: <i>{drawing.path}</i>")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[ResultsFolder, Inputs]:
    """A small study with names that would run as HTML, and what its page is made from."""
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    for section, values in (STUDY | {"studies": {"top_down_refinement": LABELLED}}).items():
        merges = isinstance(values, dict) and section != "studies"
        config[section] = config[section] | values if merges else values
    config["scalability"]["precision"] = list(PRECISIONS)
    study = resolve_study(config)
    folder = tmp_path_factory.mktemp("study") / "results"
    folder.mkdir()
    fill_results(folder, study)
    for semantics in study.semantics:
        points = [
            synthetic_point(model, size, precision=precision, batch_size=batch)
            for model in ("afmp_small", "deit_tiny", "afmp_refined_small")
            for size in (64, 128, 224)
            for precision, batch in PRECISIONS.items()
        ]
        records.write_scalability(
            folder / scalability_file(semantics), synthetic_scalability(points, semantics=semantics)
        )
    drawings = study_drawings(study)
    fill_pictures(folder, drawings)
    claims = json.loads(json.dumps(CLAIMS))
    claims["claims"]["top_down_helps"]["claim"] = WORDS
    inputs = inputs_of(PROJECT, claims=claims, pictures=folder, drawings=drawings, configuration=yaml.safe_dump(config))
    return ResultsFolder(folder, study), inputs


@pytest.fixture(scope="module")
def page(study, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    write_first_page(path, *study)
    return path


class Reader(HTMLParser):
    """Reads a page as a browser does: the texts outside of scripts, the cells, and the number of each tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts, self.rows, self.tags, self.images, self.data = [], [], [], [], {}
        self.inside = (None, {})
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "button":  # within the cell of a header
            return
        self.inside = self.tags[-1]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            self.images.append(dict(attributes).get("src"))

    def handle_endtag(self, tag):
        self.inside = (None, {})

    def handle_data(self, text):
        tag, attributes = self.inside
        if tag in ("script", "style"):
            self.data[attributes.get("id")] = text
            return
        self.texts.append(text)
        if tag in ("td", "th"):
            self.rows[-1][-1] += text


@pytest.fixture(scope="module")
def read(page) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


def test_every_figure_is_in_the_page_with_its_caption(study, read):
    opened_study, inputs = study
    diagnostics = json.loads(read.data["diagnostics-data"])
    plain = [drawing for drawing in inputs.drawings if drawing.name != "diagnostics"]
    assert len(plain) == 2 * 3 + 1
    for drawing in plain:
        content = (opened_study.folder / f"{drawing.path}.png").read_bytes()
        assert f"data:image/png;base64,{base64.b64encode(content).decode()}" in read.images
        assert any(f"of a_b: <i>{drawing.path}</i>" in text for text in read.texts)
    shown = [(run["name"], picture["epoch"]) for run in diagnostics for picture in run["pictures"]]
    assert len(shown) == len(inputs.drawings) - len(plain) == 2 * 2 * 2
    assert len({picture["image"] for run in diagnostics for picture in run["pictures"]}) == len(shown)
    assert shown[0] == ("top_down, paper", 2)


def test_every_row_of_the_tables_and_every_verdict_is_in_the_page(study, read):
    opened_study, inputs = study
    of_study = opened_study.study
    paths = [path for one in of_study.semantics for path in result_files(one, of_study.runs, of_study.seeds)]
    tables = run_tables(list(opened_study.read_records(paths).values()), of_study.studies)
    for name in ("summary", "differences"):
        for table in tables[name].printed:
            assert table.header in read.rows
            for row in (row for group in table.groups for row in group):
                assert row in read.rows
    answered = answered_claims(resolve_claims(inputs.claims), opened_study).answered
    words = [text for text in map(str.strip, read.texts) if text in ("holds", "fails", "cannot tell")]
    assert COMMANDS in read.texts
    # Each verdict is on its card, and once more in the row of each of its comparisons.
    assert words[: len(answered)] == [one.verdict for one in answered]
    points = json.loads(read.data["points-data"])
    assert len(points) == 2 * 3 * 3 * 2 and all(len(point["time"]) == 3 for point in points)


def test_texts_are_shown_as_written_and_the_page_loads_nothing(page, read):
    text = "".join(read.texts)
    assert WORDS in text and SCRIPT in text and f"7.3 {IMAGE}" in text
    assert [attributes.get("id") for tag, attributes in read.tags if tag == "script"] == [
        "points-data",
        "chart-data",
        None,
        "diagnostics-data",
        "tables-library",
        None,
    ]
    assert all(image is None or image.startswith("data:") for image in read.images)
    assert "default-src 'none'" in page.read_text(encoding="utf-8")
    assert not [value for _, attributes in read.tags for name, value in attributes.items() if name.startswith("on")]
    links = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    ids = {attributes.get("id") for _, attributes in read.tags}
    assert links and all(link.startswith("#") and link[1:] in ids for link in links)


def test_how_it_was_made_and_how_to_cite(read):
    text = "".join(read.texts)
    for said in ("(cpu)", "(cuda)", "Commit", "PyTorch", "cff-version: 1.2.0", "visualize_every: 2"):
        assert said in text
    assert "Cite the source of the images, too: digits." in text


def test_images_of_cifar_are_cited_by_their_report():
    for source, name in (("cifar100", "CIFAR-100"), ("cifar10", "CIFAR-10"), ("folder", "cifar100")):
        assert "A. Krizhevsky" in images_to_cite(source, name)
    assert "Krizhevsky" not in images_to_cite("folder", "shapes")


def test_the_configuration_does_not_show_where_images_lie():
    text = configuration_text({"dataset": {"source": "folder", "path": "/home/person/shapes"}, "seeds": [0]})
    assert "path: shapes\n" in text and "person" not in text and "seeds:" in text
    assert "path: null\n" in configuration_text({"dataset": {"source": "digits", "path": None}})


def test_a_study_without_verdicts_says_where_to_read_of_claims(study, read, tmp_path, monkeypatch):
    assert "docs/your-own-study.md" not in "".join(read.texts)
    monkeypatch.setattr(first_page, "answered_claims", lambda *_: Answers([], left_out=15))
    write_first_page(tmp_path / "index.html", *study)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "docs/your-own-study.md" in "".join(Reader(text).texts)


def test_the_choice_says_which_executions_take_a_graph_made_by_hand(study, read, tmp_path, monkeypatch):
    assert "eager" in read.texts and "by hand" not in "".join(read.texts)
    monkeypatch.setattr(page_sweep, "MADE_BY_HAND", ("eager",))
    write_first_page(tmp_path / "index.html", *study)
    read = Reader((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "eager (by hand)" in read.texts
    assert [attributes for tag, attributes in read.tags if tag == "option" and attributes.get("value") == "eager"]


def test_a_study_of_one_seed_without_a_sweep_has_a_page(study, tmp_path):
    opened_study, inputs = study
    small = replace(opened_study.study, scalability=None, seeds=[0])
    write_first_page(
        tmp_path / "index.html",
        ResultsFolder(opened_study.folder, small),
        replace(inputs, drawings=study_drawings(small), citation=""),
    )
    read = Reader((tmp_path / "index.html").read_text(encoding="utf-8"))
    text = "".join(read.texts)
    assert "each with 1 random seed" in text and "each with 1 random seeds" not in text
    ids = {attributes.get("id") for _, attributes in read.tags}
    assert {"verdicts", "diagnostics", "made"} <= ids and not {"sweep", "cite"} & ids


def test_a_figure_that_is_missing_is_named(study, tmp_path):
    opened_study, inputs = study
    with pytest.raises(AfmpError, match=re.escape(str(tmp_path / "figures"))):
        write_first_page(tmp_path / "index.html", opened_study, replace(inputs, pictures=tmp_path))
    assert not (tmp_path / "index.html").exists()


# ------------------------------------------------------------------------------------------------------- in a browser

# The page in a frame of some width: a window without a screen is never narrower than 500 pixels.
FRAME = """<!DOCTYPE html><iframe src="clicked.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<script>addEventListener("message", event => {{
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = event.data;
  document.body.append(note);
}});</script>"""

CLICK = """<script>const refused = [];
addEventListener("securitypolicyviolation", event => refused.push(event.blockedURI));
addEventListener("load", async () => {
  const wait = () => new Promise(done => setTimeout(done, 100));
  while (!document.querySelector("#points td")) await wait();
  const seen = {width: innerWidth, scroll: document.documentElement.scrollWidth};
  const table = [...document.querySelectorAll("table.sortable")].find(one => /Test accuracy/.test(one.tHead.innerText));
  const column = [...table.tHead.rows[0].cells].findIndex(cell => /Test accuracy/.test(cell.innerText));
  const values = () => [...table.tBodies[0].rows].map(row => row.cells[column].innerText);
  table.tHead.rows[0].cells[column].querySelector("button").click();
  await wait();
  seen.rising = values();
  seen.sorted = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
  table.tHead.rows[0].cells[column].querySelector("button").click();
  await wait();
  seen.falling = values();
  const told = [...document.querySelectorAll("#verdicts table")].find(one => /To tell/.test(one.tHead.textContent));
  const cells = () => [...told.tBodies[0].rows].map(row => [...row.cells].at(-1).textContent);
  [...told.tHead.rows[0].cells].at(-1).querySelector("button").click();
  await wait();
  seen.told = cells();
  seen.pictures = [...document.querySelectorAll(".picture")].map(box => [box.clientWidth, box.scrollWidth]);
  seen.wide = [...document.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth + 1).length;
  const sweep = document.querySelector("#sweep form");
  const drawn = () => Bokeh.documents[0].get_model_by_name("legend").items.filter(entry => entry.visible)
    .map(entry => entry.renderers[0].data_source).map(({tags, data}) => [tags[0], data.patches, data.median]);
  const shown = () => [Bokeh.index.roots[0].export().canvas.toDataURL(), document.getElementById("points").innerText,
    [...document.querySelectorAll("#ratios tbody tr")].filter(row => row.offsetParent).length, drawn()];
  document.querySelector("#sweep details").open = true;
  seen.first = shown();
  sweep.elements.precision.value = "bf16";
  sweep.elements.precision.dispatchEvent(new Event("change", {bubbles: true}));
  await wait();
  seen.second = shown();
  const form = document.querySelector("#diagnostics form"), picture = document.getElementById("diagnostics-picture");
  const look = () => [form.elements.shown.value, picture.src, picture.alt];
  seen.last = look();
  form.elements.epoch.value = 0;
  form.elements.epoch.dispatchEvent(new Event("input", {bubbles: true}));
  seen.before = look();
  seen.ran = document.documentElement.hasAttribute("ran");
  seen.loaded = performance.getEntriesByType("resource").map(one => one.name).filter(name => !name.startsWith("data:"));
  seen.refused = refused;
  parent.postMessage(JSON.stringify(seen), "*");
});</script></body>"""


def number(cell: str) -> float:
    return float(re.match(r"[\d.]+", cell)[0])


@pytest.mark.browser
@pytest.mark.promise("escaped-texts")
@pytest.mark.parametrize("width", [1400, 390])
def test_a_reader_sorts_chooses_and_moves_the_slider(page, width, tmp_path):
    text = page.read_text(encoding="utf-8")
    (tmp_path / "clicked.html").write_text(CLICK.join(text.rsplit("</body>", 1)), encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width), encoding="utf-8")
    document = opened(tmp_path / "frame.html")
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', document, re.DOTALL)[1]))
    assert seen["width"] == width and not seen["ran"]
    assert not seen["loaded"] and not seen["refused"]  # nothing from outside of the page, not even as a try
    assert seen["scroll"] <= width and seen["wide"] == 0  # nothing is wider than the page
    # A figure scrolls in its own box, at a width that can be read.
    assert len(seen["pictures"]) == 8 and all(box <= width and inside >= 960 for box, inside in seen["pictures"])
    rising, falling = (list(map(number, seen[order])) for order in ("rising", "falling"))
    empty = [not cell for cell in seen["told"]]
    assert set(empty) == {True, False} and empty == sorted(empty)  # a cell without a value is last
    assert seen["sorted"] == "ascending"
    assert len(set(rising)) == 4 and rising == sorted(rising) and falling == rising[::-1]
    models = ["AFMP-Small", "DeiT-Tiny, fused attention", "AFMP-refined-Small"]
    for _, points, ratios, lines in (seen["first"], seen["second"]):
        assert [name for name, _, _ in lines] == models and ratios == 6 and all(model in points for model in models)
        assert all(patches == [16, 64, 196] and min(median) > 0 for _, patches, median in lines)
    first, second = ([seen[time][place] for place in (0, 1, 3)] for time in ("first", "second"))
    assert all(one != other for one, other in zip(first, second, strict=True))
    assert seen["last"][0] == "3 (2 of 2)" and seen["before"][0] == "2 (1 of 2)"
    assert seen["last"][1] != seen["before"][1] and seen["before"][2].endswith("at epoch 2")
