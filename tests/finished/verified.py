"""What `verify` says of a project with a finished study, with paths below its results folder."""

import re
from pathlib import Path

import yaml
from lies import bless

from afmp.errors import AfmpError
from afmp.finished.verify import verify


def lines(project: Path) -> list[str]:
    """Return the lines that `verify` says, and check that it fails exactly if one of them is a FAIL."""
    said = []
    config = yaml.safe_load((project / "config.yaml").read_text())
    results = project / "results"
    dataset = results / "prepare_data/digits.safetensors"
    try:
        verify(config, results=results, dataset=dataset, archives=[project / "archive"], say=said.append)
        assert not [line for line in said if line.startswith("FAIL")]
    except AfmpError as error:
        assert re.search(r"results: \d+ of \d+ checks failed", str(error))
        assert [line for line in said if line.startswith("FAIL")]
    assert all(line.isprintable() for line in said)
    return [line.replace(f"{results}/", "") for line in said]


def failures(project: Path) -> list[str]:
    """Return the FAIL lines that `verify` says, each once."""
    return [line.removeprefix("FAIL  ") for line in dict.fromkeys(lines(project)) if line.startswith("FAIL")]


# Checks of what is made from records. They compare with the record as it is now, and so fail too if a record lies.
MADE_FROM_THEM = r"^(table|figures|plot_diagnostics).*, (computed|drawn) again: "


def assert_named(found: list[str], lies: dict, *, besides: str | None = None) -> None:
    """Check that each pattern of lies {name: (function, pattern, ...)} is in a FAIL line, and that there is no other.

    besides: a pattern of lines that may be there too.
    """
    for name, (_, *patterns) in lies.items():
        for pattern in patterns:
            assert [line for line in found if re.search(pattern, line)], (name, pattern, found)
    every = [pattern for _, *patterns in lies.values() for pattern in patterns] + [besides] * (besides is not None)
    others = [line for line in found if not any(re.search(pattern, line) for pattern in every)]
    assert others == [], others


def assert_found(project: Path, lies: dict, *, besides: str | None = None) -> None:
    """Tell all lies of a group to a finished study, cover them, and check that `verify` names each and nothing else."""
    for tell, *_ in lies.values():
        tell(project / "results")
    bless(project / "results")
    assert_named(failures(project), lies, besides=besides)
