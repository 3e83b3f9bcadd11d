"""A sweep's file: its schema, its table, and the text that `afmp benchmark sweep` prints."""

import re

import pytest
from small_sweeps import measured_sweep

from afmp import records
from afmp.analysis.sweep_tables import scalability_table
from afmp.benchmark.text import format_sweep
from afmp.errors import AfmpError


def test_the_table_has_one_row_per_point(tmp_path):
    sweep = measured_sweep()
    sweep["points"][5] |= {
        "status": "oom",
        "error": "RuntimeError: out of memory",
        "num_parameters": None,
        "time_ms": None,
        "memory": None,
    }
    records.write_scalability(tmp_path / "scalability.json", sweep)
    table = scalability_table(records.read_scalability(tmp_path / "scalability.json"))
    assert len(table) == 6
    first = table.iloc[0]
    assert first["time_median_ms"] == sweep["points"][0]["time_ms"]["median"]
    assert first["peak_memory_mb"] == sweep["points"][0]["memory"]["peak_mb"]
    assert first["torch_version"] == sweep["versions"]["torch"]
    assert table["status"].tolist() == [*["ok"] * 5, "oom"]
    assert table["time_median_ms"].isna().tolist() == [*[False] * 5, True]
    # Counts stay whole numbers in a column with an empty field.
    text = table.to_csv(index=False)
    assert str(sweep["points"][0]["num_parameters"]) + "," in text


def test_printed_ratios_are_deit_over_afmp():
    sweep = measured_sweep()
    afmp, deit, refined = sweep["points"][:3]
    rows = format_sweep(sweep).split("DeiT / AFMP")[1].splitlines()
    for point, row in ((afmp, rows[1]), (refined, rows[3])):
        shown, ratio = row.split(), deit["time_ms"]["median"] / point["time_ms"]["median"]
        assert shown[:8] == [point["model"], "32", "4", "2", "fp32", "train", "eager", "fused"]
        assert float(shown[8]) == pytest.approx(ratio, abs=0.006)


def test_printed_columns_stay_apart_for_passes_of_minutes():
    sweep = measured_sweep()
    sweep["points"][0]["time_ms"] |= {"median": 123_456.789, "q25": 123_456.788, "q75": 123_456.790}
    row = next(line for line in format_sweep(sweep).splitlines() if "123456" in line)
    assert re.search(r" 123456\.789 +\[123456\.788, 123456\.790\] +\d", row), row


def test_the_schema_refuses_a_failed_point_with_numbers():
    sweep = measured_sweep()
    sweep["points"][0]["status"] = "oom"
    with pytest.raises(AfmpError, match="points/0"):
        records.validate(sweep, "scalability", where="test")


@pytest.mark.parametrize("kind", ["scalability", "parameters", "manifest"])
def test_the_schema_describes_every_key(kind):
    def undescribed(schema: dict, where: str):
        for key, value in schema.get("properties", {}).items():
            if "description" not in value:
                yield f"{where}/{key}"
            yield from undescribed(value, f"{where}/{key}")
        if "items" in schema:
            yield from undescribed(schema["items"], where)

    assert list(undescribed(records.schema(kind), kind)) == []
