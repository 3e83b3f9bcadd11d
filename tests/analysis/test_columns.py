"""results/README.md explains every column of every table."""

import re

import pytest
from conftest import PROJECT
from synthetic_results import STUDIES, synthetic_point, synthetic_results, synthetic_scalability

from afmp.analysis.claims import answer_claims
from afmp.analysis.models import MODELS
from afmp.analysis.tables import claim_tables, run_tables, sweep_tables
from afmp.study import paths
from afmp.study.claims import read_claims
from afmp.study.study import read_study

RESULTS = synthetic_results(seeds=range(2))
SWEEP = synthetic_scalability([synthetic_point(model, size) for model in MODELS for size in (64, 96, 128)])
COUNTS = [{"model": name, "description": name, "resolution": 224, "num_parameters": 1} for name in MODELS]
ANSWERS = answer_claims(read_claims(PROJECT / "claims.yaml"), read_study(PROJECT / "config.yaml"), [*RESULTS, SWEEP])
TABLES = run_tables(RESULTS, STUDIES) | sweep_tables([SWEEP], {"models": COUNTS, "num_classes": 100})
TABLES |= claim_tables(ANSWERS)


@pytest.mark.parametrize("name", paths.TABLES)
def test_every_column_is_explained(name):
    text = (PROJECT / "results" / "README.md").read_text(encoding="utf-8")
    columns = text.partition("## Columns of the tables")[2]
    common, *sections = re.split(r"^\*\*(?=\w+\.csv\*\*)", columns, flags=re.MULTILINE)
    own = {section.partition(".csv")[0]: section for section in sections}
    # The other two tables of the sweep have its settings.
    text = common + own[name] + (own["scalability"] if name.startswith("scalability") else "")
    explained = set(re.findall(r"`([\w<>*]+)`", text))
    for column in TABLES[name][0].columns:
        whole = re.sub(r"_(mean|std|ci95_low|ci95_high)$", "", column)
        assert column in explained or whole in explained or f"{whole}_*" in explained, f"{name}.csv: {column}"
