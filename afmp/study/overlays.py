"""Overlays: files that change keys of a configuration, and remove studies from it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import is_there
from afmp.records import schema
from afmp.sources import PROJECT
from afmp.study.config_file import read_config
from afmp.study.config_schema import did_you_mean

DEFAULT = "config.yaml"
SHIPPED = PROJECT / "config.yaml"  # what `snakemake --configfile` puts an overlay over


def file_names(paths: Sequence[Path | str] | None) -> str:
    """Return the names of the files that `read_configs` reads, for messages."""
    return ", ".join(map(str, paths or [DEFAULT]))


def read_configs(paths: Sequence[Path | str] | None) -> dict:
    """Read configuration files, each an overlay of those before it, and return one configuration.

    Without paths, DEFAULT in the working directory is read. A first file with every section of a configuration stands
    alone. Another one is an overlay of SHIPPED. Raises AfmpError as `read_config` and `without_removed` do.
    """
    if not paths:
        if not is_there(DEFAULT):
            raise AfmpError(
                f"{DEFAULT}: no such file in {Path.cwd()}; name the configuration of the study, with its overlays in "
                "their order: --config FILE."
            )
        return read_config(DEFAULT)
    configs = [read_config(path) for path in paths]
    lacks = [section for section in schema("config")["required"] if section not in configs[0]]
    if lacks:
        if not is_there(SHIPPED):
            raise AfmpError(
                f"{paths[0]}: has no section {lacks[0]!r}, so it is an overlay, but the config.yaml that it changes is "
                f"not there ({SHIPPED}); give that file first: --config config.yaml --config {paths[0]}."
            )
        configs.insert(0, read_config(SHIPPED))
    config: dict = {}
    for overlay in configs:
        config = _merged(config, overlay)
    return without_removed(config, configs)


def _merged(under, over):
    """Merge as Snakemake merges the files of --configfile: mappings key by key, and anything else is replaced."""
    if not isinstance(over, dict):
        return over
    under = under if isinstance(under, dict) else {}
    return under | {key: _merged(under.get(key), value) for key, value in over.items()}


def without_removed(config: dict, parts: Iterable[dict]) -> dict:
    """Return a configuration without the studies that are null in it.

    parts: the files that it was merged from. Raises AfmpError for a null that removes nothing, because no part has a
    study of this name.
    """
    studies = config.get("studies")
    if not isinstance(studies, dict):
        return config
    tables = [part["studies"] for part in parts if isinstance(part.get("studies"), dict)]
    known = list(dict.fromkeys(str(name) for table in tables for name in table if table[name] is not None))
    for name, table in studies.items():
        if table is None and name not in known:
            raise AfmpError(
                f"config: studies/{name}: null removes a study, but there is no study of this name"
                f"{did_you_mean(str(name), known)}; allowed: {', '.join(known)}."
            )
    return config | {"studies": {name: table for name, table in studies.items() if table is not None}}
