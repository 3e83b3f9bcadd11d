"""The semantics: the readings of AFMP that a study can compare, and how each is trained (docs/semantics.md).

A rival is a model of timm in a line of a study. It has no reading of AFMP. Its files have the name RIVAL in place of a
semantics, and the figures of its study show it under each semantics of the study.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Semantics(NamedTuple):
    """One semantics.

    - validates_on_test: the schedule and the best epoch use the test set, and not images held out of the training set
    - depends_on_batch: the answer for an image depends on the other images of its batch
    - prunes: a pruned edge has a gate of exactly 0; otherwise an edge with a mean gate below 0.5 counts as pruned
    """

    name: str
    validates_on_test: bool
    depends_on_batch: bool
    prunes: bool


RIVAL = "timm"

SEMANTICS = {
    semantics.name: semantics
    for semantics in (
        # What the text of the original notebook describes.
        Semantics("paper", validates_on_test=False, depends_on_batch=False, prunes=True),
        # What the code of the original notebook computes.
        Semantics("notebook", validates_on_test=True, depends_on_batch=True, prunes=False),
        # What an AFMP needs to learn from its messages.
        Semantics("refined", validates_on_test=False, depends_on_batch=False, prunes=True),
        # No AFMP: a model of timm, to compare with.
        Semantics(RIVAL, validates_on_test=False, depends_on_batch=False, prunes=False),
    )
}
COMPARED_SEMANTICS = ("paper", "notebook")  # of the figure notebook_vs_paper
SWEPT_SEMANTICS = ("paper", "notebook")  # that the sweep measures, and that a configuration lists at its top
AFMP_SEMANTICS = tuple(name for name in SEMANTICS if name != RIVAL)  # that a study may list


def semantics_of(study: dict, default: list[str]) -> list[str]:
    """Return the semantics under which the runs of one study are trained; `default` are those of config.yaml."""
    return study.get("semantics", default)


def trained_under(member: dict, semantics: str) -> str:
    """Return the name under which a member of a study is trained, of which the figure of `semantics` has results."""
    return member.get("semantics", semantics)


def trainings(studies: list[dict], runs: Iterable[str], default: list[str]) -> list[tuple[str, str]]:
    """Return every distinct (semantics, run) of `studies`, in the order of semantics and `runs`."""
    wanted = {
        (trained_under(member, semantics), member["run"])
        for study in studies
        for semantics in semantics_of(study, default)
        for member in study["members"]
    }
    order = dict.fromkeys([*default, *SEMANTICS])
    return [(semantics, run) for semantics in order for run in runs if (semantics, run) in wanted]
