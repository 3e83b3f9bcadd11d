"""The synthetic records that tests of tables and figures use are valid records."""

import pytest
from synthetic_results import (
    VERSIONS,
    synthetic_diagnostics,
    synthetic_point,
    synthetic_results,
    synthetic_scalability,
)

from afmp import records


@pytest.mark.parametrize("semantics", ["paper", "notebook"])
def test_synthetic_records_are_valid(semantics):
    for result in synthetic_results(seeds=[0], semantics=semantics):
        records.validate(result, "result", where="synthetic result")
    records.validate(synthetic_diagnostics(semantics=semantics), "diagnostics", where="synthetic diagnostics")
    statuses = {64: "ok", 192: "error", 224: "oom"}
    points = [synthetic_point("deit_tiny", size, status=status) for size, status in statuses.items()]
    sweep = synthetic_scalability(points, semantics=semantics)
    records.validate(sweep, "scalability", where="synthetic sweep")


def test_synthetic_versions_are_those_of_a_result():
    assert set(VERSIONS) == set(records.schema("result")["$defs"]["versions"]["properties"])
