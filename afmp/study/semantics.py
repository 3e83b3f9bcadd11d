"""The semantics: the readings of AFMP that a study can compare, and how each is trained (docs/semantics.md)."""

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


SEMANTICS = {
    semantics.name: semantics
    for semantics in (
        # What the text of the original notebook describes.
        Semantics("paper", validates_on_test=False, depends_on_batch=False, prunes=True),
        # What the code of the original notebook computes.
        Semantics("notebook", validates_on_test=True, depends_on_batch=True, prunes=False),
    )
}
