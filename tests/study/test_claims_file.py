"""Files of claims: the shipped one, and mistakes, each refused in one line."""

import copy
import shutil

import pytest
import yaml
from conftest import PROJECT
from finished_study import CLAIMS
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.study.claims import answerable, check_names, claims_text, read_claims, records_of, resolve_claims
from afmp.study.overlays import read_configs
from afmp.study.study import read_study, resolve_elsewhere, resolve_study


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


OF_RUNS = {
    "study": "top_down_refinement", "runs": ["sparse_0.3_top_down"], "reference": "sparse_0.3", "semantics": ["paper"],
}  # fmt: skip
NAMES = {
    "a misspelt study": (
        "top_down_helps",
        {"study": "top_down_refinment"},
        r"study: found 'top_down_refinment', .*mean 'top_down_refinement'",
    ),
    "a misspelt run": (
        "top_down_helps",
        {"runs": ["sparse_0.3_topdown"]},
        r"runs: found 'sparse_0.3_topdown', which this study does not have \(did you mean 'sparse_0.3_top_down'\?\)",
    ),
    "a misspelt reference": (
        "top_down_helps",
        {"reference": "sparse_03"},
        "reference: found 'sparse_03'.* 'sparse_0.3'",
    ),
    "a run of another study": (
        "top_down_helps",
        {"reference": "dense"},
        "reference: found 'dense'.*; allowed: sparse_0.3_top_down, sp",
    ),
    "untrained semantics": (
        "top_down_helps",
        {"semantics": ["refined"]},
        "semantics: found 'refined'.*: paper, notebook",
    ),
    "an unmeasured size": (
        "faster",
        {"resolutions": [64, 225]},
        r"resolutions: found 225, .*\(did you mean '224'\?\); all",
    ),
    "an unmeasured setting": (
        "faster",
        {"precision": "fp16"},
        "precision: found 'fp16'.*; allowed: fp32, tf32",
    ),
    "a sweep of other semantics": (
        "faster",
        {"semantics": ["refined"]},
        "semantics: found 'refined'.*: paper, notebook",
    ),
}


@pytest.mark.promise("mistake-ends-in-one-sentence")
@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_the_study_lacks_is_a_mistake_in_claims_of_ones_own(case, tmp_path):
    name, changes, message = NAMES[case]
    study, path = read_study(PROJECT / "config.yaml"), tmp_path / "claims.yaml"
    content = copy.deepcopy(CLAIMS)
    content["claims"]["top_down_helps"] |= OF_RUNS
    path.write_text(claims_text(content))
    check_names(read_claims(path), study, path=path)
    content["claims"][name] |= changes
    path.write_text(claims_text(content))
    with pytest.raises(AfmpError, match=rf"^{path}: claims/{name}/{message}") as caught:
        check_names(read_claims(path), study, path=path)
    assert complains(caught.value, of=f"{path}: claims/")


def test_claims_of_ones_own_about_a_sweep_need_one(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(claims_text({"claims": {"faster": CLAIMS["claims"]["faster"]}}))
    study = resolve_study(SHIPPED | {"scalability": None})
    with pytest.raises(
        AfmpError, match="claims/faster/quantity: found 'time', but this study has no sweep; allowed: test"
    ):
        check_names(read_claims(path), study, path=path)


def test_the_name_of_a_run_that_is_trained_under_another_is_no_mistake(tmp_path):
    """`refined_16` has the settings of `dense`, under whose name it is trained."""
    path, of_both = (
        tmp_path / "claims.yaml",
        {"study": "sixteen_patches", "semantics": ["refined"], "reference": "vit_16"},
    )
    claims = {name: CLAIMS["claims"]["top_down_helps"] | of_both | {"runs": [name]} for name in ("refined_16", "dense")}
    path.write_text(claims_text({"claims": claims}))
    check_names(read_claims(path), read_study(PROJECT / "config.yaml"), path=path)


def test_the_shipped_claims_may_be_about_another_study_and_name_what_the_shipped_study_has(tmp_path):
    shipped, copied = PROJECT / "claims.yaml", tmp_path / "claims.yaml"
    study, claims = read_study(PROJECT / "config.yaml"), read_claims(PROJECT / "claims.yaml")
    mine = resolve_elsewhere(read_configs([PROJECT / "my_images.yaml"]))
    check_names(claims, mine, path=shipped)
    assert answerable(claims, mine) == []
    check_names(claims, study, path=shutil.copy(shipped, copied))
    with pytest.raises(AfmpError, match="but this study has no sweep"):
        check_names(claims, mine, path=copied)
    assert answerable(claims, study) == claims
    assert {claim.of.of_sweep for claim in claims} == {True, False}
    # Nine runs under two semantics, 2 of `accuracy_and_cost`, 6 of `messages`, 2 of `window`, and the sweep of `paper`.
    assert len(records_of(claims, study)) == len(study.seeds) * (9 * 2 + 2 + 6 + 2) + 1


def test_claims_are_written_as_they_are_read():
    content = CLAIMS | {"claims": CLAIMS["claims"] | {"ü": 0}}
    assert yaml.safe_load(claims_text(content)) == content
