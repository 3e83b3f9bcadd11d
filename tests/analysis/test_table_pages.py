"""Pages of tables: names and labels are text there."""

from html.parser import HTMLParser

import pandas
import pytest

from afmp.analysis.table_files import PAGE_HEAD, write_html

CELLS = [
    "</table><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; \"'",
    "javascript:alert(1)",
    "λ 稠",
]


class Page(HTMLParser):
    """The tags of a page, with the text of its cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


@pytest.mark.promise("escaped-texts")
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_and_a_heading_are_text(tmp_path, cell):
    write_html(pandas.DataFrame({"label": [cell], cell: [1.0]}), tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    usual = {"meta", "style", "table", "thead", "tbody", "tr", "th", "td"}
    assert {tag for tag, _ in page.tags} == usual and PAGE_HEAD.count("<meta") == 1
    assert "".join(page.texts).count(cell) == 2
    assert not [attributes for _, attributes in page.tags if {"href", "src", "onerror"} & set(attributes)]
