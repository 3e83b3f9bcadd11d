"""Files of tables: CSV, pages for the report, and LaTeX and Markdown for publication."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import pandas

from afmp.analysis.printed_tables import PrintedTable, latex, markdown
from afmp.analysis.tables import Tables
from afmp.records import atomic_path, write_text
from afmp.study.paths import CLAIMS_TABLE, PRINTED_TABLES

PAGE_HEAD = """<!DOCTYPE html>
<meta charset="utf-8">
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; }
table { border-collapse: collapse; }
th, td { padding: .3em .7em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { position: sticky; top: 0; background: #f4f4f4; border-bottom: 2px solid #888; }
td:first-child, td:nth-child(2), td:nth-child(3) { text-align: left; }
</style>
"""


def write_tables(tables: Tables, files: Mapping[str, str]) -> None:
    """Write each table to the files that `afmp.study.paths.files_of_table` names; `files` has their paths by name."""
    for name, table in tables.items():
        write_csv(table.rows, files[name])
        write_text(files[f"{name}_caption"], table.caption)
        if page := files.get(f"{name}_page"):
            if name == CLAIMS_TABLE:
                write_printed_html(table.printed, page)  # its rows have too many columns for a page
            else:
                write_html(table.rows, page)
        if name in PRINTED_TABLES:
            write_text(files[f"{name}_latex"], latex(table.printed))
            write_text(files[f"{name}_markdown"], markdown(table.printed))


def write_csv(table: pandas.DataFrame, path: Path | str) -> None:
    """Write a table atomically as CSV: six significant digits, empty cells for missing values, line feeds."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", na_rep="", lineterminator="\n", encoding="utf-8")


def write_html(table: pandas.DataFrame, path: Path | str) -> None:
    """Write a table as a page for the report, with four significant digits."""
    body = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
    write_text(path, PAGE_HEAD + body + "\n")


def write_printed_html(tables: Sequence[PrintedTable], path: Path | str) -> None:
    """Write tables for publication as a page, each below its caption, with lines that break."""
    blocks = []
    for table in tables:
        rows = pandas.DataFrame([cells for group in table.groups for cells in group], columns=table.header)
        shown = rows.to_html(index=False, border=0) if len(rows) else ""
        blocks.append(f"<p>{escape(table.caption)}</p>\n{shown}")
    style = "<style>th, td, td:first-child { text-align: left; white-space: normal; vertical-align: top; }</style>\n"
    write_text(path, f"{PAGE_HEAD}{style}" + "\n".join(blocks) + "\n")
