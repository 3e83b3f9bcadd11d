"""Files of claims: the shipped one, and mistakes, each refused in one line."""

import copy

import pytest
import yaml
from conftest import PROJECT
from finished_study import CLAIMS
from shipped_study import complains

from afmp.errors import AfmpError
from afmp.study.claims import claims_text, read_claims, records_of, resolve_claims
from afmp.study.study import read_study


def put(name: str, **changes):
    return lambda content: content["claims"][name].update(changes)


def gone(name: str, key: str):
    return lambda content: content["claims"][name].pop(key)


MISTAKES = {
    "an unknown key": (put("faster", expects="lower"), r"claims/faster/expects: unknown key .*did you mean 'expect'\?"),
    "another word": (
        put("faster", expect="faster"),
        "claims/faster/expect: found 'faster'; allowed: higher, lower, eq",
    ),
    "a quantity of nothing": (put("faster", quantity="speed"), "quantity: found 'speed'; allowed: test_accuracy, best"),
    "a missing key": (
        gone("faster", "claim"),
        "claims/faster/claim: missing; add it as claims.yaml of the project has",
    ),
    "a negative margin": (put("faster", margin=-1), "claims/faster/margin: found -1; allowed: a number, at least 0"),
    "no number": (put("faster", margin=float("nan")), "claims/faster/margin: found nan; allowed: finite numbers"),
    "two lines": (put("faster", claim="a\nb"), r"claims/faster/claim: found 'a\\nb'; allowed: one line of text"),
    "a semantics of nothing": (
        put("faster", semantics=["code"]),
        "semantics/0: found 'code'; allowed: paper, notebook",
    ),
    "a model of nothing": (put("faster", models=["vit"]), "models/0: found 'vit'; allowed: afmp_small, deit_tiny"),
    "a reference of nothing": (
        put("faster", reference="vit"),
        "faster/reference: found 'vit'; allowed: afmp_small, de",
    ),
    "no runs": (gone("top_down_helps", "runs"), "top_down_helps/runs: missing; test_accuracy is a quantity of runs"),
    "no sizes": (gone("faster", "resolutions"), "claims/faster/resolutions: missing; time is a quantity of the sweep"),
    "sizes of runs": (
        put("top_down_helps", resolutions=[224]),
        r"top_down_helps/resolutions: found \[224\], but test_accuracy is a quantity of runs; allowed with it: study",
    ),
    "runs of the sweep": (
        put("faster", runs=["dense"]),
        r"faster/runs: found \['dense'\], but time is a quantity of the",
    ),
    "a run against itself": (
        put("top_down_helps", reference="top_down"),
        "reference: found 'top_down', which is among",
    ),
    "equal without a margin": (
        put("faster", expect="equal"),
        "faster/margin: found None; allowed with `expect: equal`: a number above 0, because no number of random seeds",
    ),
    "growth of three sizes": (
        put("faster", quantity="time_growth", resolutions=[1, 2, 3]),
        r"faster/resolutions: found \[1, 2, 3\]; allowed with time_growth: two sizes",
    ),
    "no claim": (lambda content: content.update(claims={}), "claims: found {}; allowed: a mapping of keys, entries at"),
    "a list": (lambda content: content.update(claims=[]), r"claims: found \[\]; allowed: a mapping of keys"),
}


@pytest.mark.promise("mistake-ends-in-one-sentence")
@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_refused_in_one_line(case):
    change, message = MISTAKES[case]
    content = copy.deepcopy(CLAIMS)
    change(content)
    with pytest.raises(AfmpError, match=f"^claims: .*{message}") as caught:
        resolve_claims(content)
    assert complains(caught.value, of="claims: ")


def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path):
    (tmp_path / "mine.yaml").write_text("claims:\n  a: {}\n  a: {}\n")
    with pytest.raises(AfmpError, match=r"mine\.yaml: claims/a appears twice, in lines 2 and 3; keep one"):
        read_claims(tmp_path / "mine.yaml")


def test_the_shipped_claims_name_what_the_shipped_study_has():
    """A misspelled run would be answered with `cannot tell`, which is no mistake of a file in general."""
    study = read_study(PROJECT / "config.yaml")
    members = {one["name"]: {member["run"] for member in one["members"]} for one in study.studies}
    trained = {one["name"]: one["semantics"] for one in study.studies}
    claims = read_claims(PROJECT / "claims.yaml")
    for claim in claims:
        if claim.of.of_sweep:
            assert set(claim.resolutions) <= set(study.scalability["resolutions"])
            assert {claim.reference, *claim.subjects} <= set(study.scalability["models"])
            for key in ("precision", "mode", "execution", "attention"):
                assert getattr(claim, key) in study.scalability[key]
        else:
            assert {claim.reference, *claim.subjects} <= members[claim.study]
            assert set(claim.semantics) <= set(trained[claim.study])
    assert {claim.of.of_sweep for claim in claims} == {True, False}
    # Nine runs under two semantics, 2 of `accuracy_and_cost`, 6 of `messages`, 2 of `window`, and the sweep of `paper`.
    assert len(records_of(claims, study)) == len(study.seeds) * (9 * 2 + 2 + 6 + 2) + 1


def test_claims_are_written_as_they_are_read():
    content = CLAIMS | {"claims": CLAIMS["claims"] | {"ü": 0}}
    assert yaml.safe_load(claims_text(content)) == content
