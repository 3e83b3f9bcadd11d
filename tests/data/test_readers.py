"""The dataset sources: the table of readers, the schema and the documents name the same ones."""

import pytest
from conftest import PROJECT

from afmp.data.readers import READERS
from afmp.records import schema


def test_the_schema_allows_exactly_the_sources_that_have_a_reader():
    source = schema("config")["properties"]["dataset"]["properties"]["source"]
    assert source["enum"] == list(READERS)
    assert all(name in source["description"] for name in READERS)


@pytest.mark.parametrize("source", READERS)
def test_config_yaml_names_every_source(source):
    (line,) = [line for line in (PROJECT / "config.yaml").read_text().splitlines() if line.startswith("  source:")]
    assert source in line.partition("#")[2]
