"""The scripts of Bokeh and DataTables, which stand in the first page so that it needs no network."""

from importlib.metadata import distribution
from pathlib import Path

# By package. They are read as files: settings of a person for a package (itables.toml, BOKEH_MINIFIED) change no page.
SCRIPTS = {"bokeh": "bokeh/server/static/js/bokeh.min.js", "itables": "itables/html/dt_bundle.js"}


def script_of(package: str) -> str:
    """Return the script of an installed package of `SCRIPTS`, with the notices of its licences."""
    return Path(distribution(package).locate_file(SCRIPTS[package])).read_text(encoding="utf-8")
