"""The report and the pages of tables in a browser: names, labels and titles are shown as written, and none runs.

They need a browser, so they run only when asked for by `pytest -m browser`, as .ci/run does.
"""

import html
import json
import re
from pathlib import Path

import pytest
import yaml
from browser import opened
from image_folders import plain_colour
from workflow_runs import STUDY, copy_project, snakemake, write_study

from afmp.errors import printable

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

# What runs, leaves a mark on the document.
RUN = "document.documentElement.setAttribute('ran',1)"
SCRIPT, IMAGE = f"</script><script>{RUN}</script>", f'<img src="x" onerror="{RUN}">'
LABELS = {"dense": SCRIPT, "sparse_0.3": f"`a <javascript:{RUN}>`__ :raw-html:`{IMAGE}`"}
TITLES = {
    "sparsity_level": f".. raw:: html {IMAGE}",
    "widths": r"<!--<script> $\frac{a}{b}$ {run} `x`_: javascript:alert(1) *y* |z| \\",
}
SECTIONS = {"sparsity_level": "`7.1`_", "widths": "A.1"}
DATASET = f"my$\\frac{{$images\n\n.. raw:: html\n\n   {IMAGE.replace('/', '')}\n"

# Opens everything that a person can open, and writes down what is seen and which links are there.
CLICK = """<script>
(async () => {
  const wait = () => new Promise(done => setTimeout(done, 100));
  const page = document.querySelector("#app");
  const seen = {views: [], captions: [], links: []};
  const look = async show => {
    show();
    await wait();
    seen.views.push(page.innerText);
    seen.links.push(...[...page.querySelectorAll("a")].map(a => a.getAttribute("href") || ""));
  };
  while (!app) await wait();
  await look(() => app.setView({content: "rulegraph", navbarMode: "menu"}));
  for (const category of Object.keys(categories)) {
    await look(() => app.showCategory(category));
    for (const subcategory of Object.keys(categories[category]))
      await look(() => app.setView({navbarMode: "subcategory", category: category, subcategory: subcategory}));
  }
  for (const path of Object.keys(results)) {
    await look(() => app.showResultInfo(path));
    seen.captions.push([...page.querySelectorAll(".prose")].map(part => part.innerText).join(" "));
  }
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify(seen);
  document.body.replaceChildren(note);
})();
</script></body>"""


def make_folder(folder: Path) -> None:
    for split in ("train", "test"):
        for name, colour in ((f"{IMAGE.replace('/', '')}", 10), ("b\n.. raw:: html", 200)):
            (folder / split / name).mkdir(parents=True)
            for index in range(4):
                plain_colour(colour + index).save(folder / split / name / f"{index}.png")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("hostile"))
    make_folder(folder / DATASET)
    study = yaml.safe_load(yaml.safe_dump(STUDY)) | {"seeds": [0], "semantics": ["paper"]}
    study["dataset"] |= {"source": "folder", "path": DATASET, "image_size": 16}
    study["training"] |= {"epochs": 2, "batch_size": 4, "visualize_every": 1}
    study["scalability"] |= {"resolutions": [16], "execution": ["eager"]}
    for name, table in study["studies"].items():
        table |= {"title": TITLES[name], "section": SECTIONS[name]}
    for line in study["studies"]["sparsity_level"]["runs"]:
        line["label"] = LABELS[line["run"]]
    write_study(folder, study)
    snakemake(folder, "report")
    return folder


def as_written(text: str) -> str:
    """Return a text without the invisible characters that keep it text, and with single spaces."""
    return " ".join(text.replace("\u2060", "").split())


def in_order(view: str, texts: list[str]) -> bool:
    """Return whether all texts stand in a view, in this order."""
    return re.search(".*".join(map(re.escape, texts)), view) is not None


@pytest.mark.promise("escaped-texts")
def test_nothing_of_a_name_runs_in_the_report_and_captions_show_it_as_written(project):
    report = (project / "results/report/report.html").read_text(encoding="utf-8")
    clicking = project / "clicking.html"
    clicking.write_text(CLICK.join(report.rsplit("</body>", 1)), encoding="utf-8")
    page = opened(clicking)
    assert not re.search(r"<html[^>]*\bran=", page)
    seen = json.loads(html.unescape(re.search(r'<pre id="seen">(.*?)</pre>', page, re.DOTALL)[1]))
    captions, views = (list(map(as_written, seen[part])) for part in ("captions", "views"))
    titles = [as_written(f"{SECTIONS[name]} {title}") for name, title in TITLES.items()]
    assert in_order(views[0], ["Claims", *titles, "Tables", "Scalability", "Diagnostics"])
    labels = "dense paper 0 0 to 1 gates"
    assert any(in_order(view, [f"{epoch} {labels}" for epoch in (2, 1)]) for view in views)
    assert len(captions) >= 14 and all(captions)
    assert not [link for link in seen["links"] if link.startswith("javascript")]
    assert not [caption for caption in captions if "System Message" in caption]
    # Each text of the study, and the name of the folder, in a caption or in the menu.
    for text in LABELS.values():
        assert any(as_written(text) in caption for caption in captions), text
    for name, title in TITLES.items():
        assert any(as_written(f"{SECTIONS[name]} {title}") in view for view in views), title
    assert any(as_written(TITLES["widths"]) in caption for caption in captions)
    assert any(as_written(printable(DATASET)) in caption for caption in captions)


@pytest.mark.promise("escaped-texts")
def test_nothing_of_a_name_runs_in_the_first_page(project):
    page = opened(project / "results/report/index.html")
    assert not re.search(r"<html[^>]*\bran=", page) and "How it was made" in page
    assert html.escape(LABELS["dense"], quote=False) in page


@pytest.mark.promise("escaped-texts")
@pytest.mark.parametrize("table", ["summary", "differences"])
def test_nothing_of_a_name_runs_in_a_page_of_a_table(project, table):
    page = opened(project / f"results/aggregate/{table}.html")
    assert not re.search(r"<html[^>]*\bran=", page)
    cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", page, re.DOTALL)]
    assert LABELS["sparse_0.3"] in cells


def test_what_would_run_leaves_its_mark(tmp_path):
    (tmp_path / "page.html").write_text(f"<!DOCTYPE html><script>var x = '{SCRIPT}';</script>{IMAGE}")
    assert re.search(r"<html[^>]*\bran=", opened(tmp_path / "page.html"))
