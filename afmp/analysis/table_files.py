"""Files of tables: CSV, and pages for the report."""

from collections.abc import Mapping
from pathlib import Path

import pandas

from afmp.records import atomic_path, write_text

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


def write_tables(tables: Mapping[str, tuple[pandas.DataFrame, str]], files: Mapping[str, str]) -> None:
    """Write each table and its caption to the files `<name>`, `<name>_page` (if there is one) and `<name>_caption`."""
    for name, (table, caption) in tables.items():
        write_csv(table, files[name])
        if page := files.get(f"{name}_page"):
            write_html(table, page)
        write_text(files[f"{name}_caption"], caption)


def write_csv(table: pandas.DataFrame, path: Path | str) -> None:
    """Write a table atomically as CSV: six significant digits, empty cells for missing values, line feeds."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", na_rep="", lineterminator="\n", encoding="utf-8")


def write_html(table: pandas.DataFrame, path: Path | str) -> None:
    """Write a table as a page for the report, with four significant digits."""
    body = table.to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format)
    write_text(path, PAGE_HEAD + body + "\n")
