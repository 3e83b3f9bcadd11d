"""Claims about a study, as claims.yaml has them: each in words, and in terms that can be tested."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from afmp import sources
from afmp.errors import AfmpError
from afmp.records import schema
from afmp.study.config_file import read_config
from afmp.study.config_schema import did_you_mean, validated
from afmp.study.paths import result_files, scalability_file
from afmp.study.semantics import trained_under
from afmp.study.study import Study

CLAIMS = "claims.yaml"
OF_RUNS = ("study", "runs")  # keys of a claim about runs, all required
OF_SWEEP = ("models", "resolutions", "precision", "mode", "execution")  # keys of a claim about the sweep, all required


class Quantity(NamedTuple):
    """What a claim compares.

    - name: in words
    - of_sweep: it is of the models of the sweep, else of the runs of a study
    - kind: the effect is a `difference` in points, a `ratio` reference / model, or a difference of `exponents`
    """

    name: str
    of_sweep: bool
    kind: str


QUANTITIES = {
    "test_accuracy": Quantity("test accuracy", False, "difference"),
    "best_val_accuracy": Quantity("validation accuracy at the best epoch", False, "difference"),
    "step_time": Quantity("time of a training step per image", False, "ratio"),
    "step_memory": Quantity("peak memory of a training step per image", False, "ratio"),
    "time": Quantity("time of a pass", True, "ratio"),
    "peak_memory": Quantity("peak memory of a pass", True, "ratio"),
    "time_growth": Quantity("exponent of N (number of patches) in the time of a pass", True, "exponents"),
    "memory_growth": Quantity("exponent of N (number of patches) in the peak memory of a pass", True, "exponents"),
}


@dataclass(frozen=True)
class Claim:
    """One claim, checked. `subjects` are the runs or the models that are compared with `reference`.

    short: the claim in few words, for the table in README. study: of a claim about runs. resolutions, in pixels, and
    the rest: of a claim about the sweep.
    """

    name: str
    words: str
    quantity: str
    semantics: list[str]
    subjects: list[str]
    reference: str
    expect: str
    margin: float = 0.0
    correction: str = "holm"
    short: str | None = None
    study: str | None = None
    resolutions: tuple[int, ...] = ()
    precision: str | None = None
    mode: str | None = None
    execution: str | None = None
    attention: str = "fused"

    @property
    def of(self) -> Quantity:
        """What the claim compares."""
        return QUANTITIES[self.quantity]


def read_claims(path: Path | str) -> list[Claim]:
    """Read and check a file of claims. Raises AfmpError with the file, the key, the value and what is allowed."""
    with naming(path):
        return resolve_claims(read_config(path))


@contextmanager
def naming(path: Path | str):
    """Put the path of a file of claims before a mistake that this block finds in it: several may exist."""
    try:
        yield
    except AfmpError as mistake:
        start = f"{CLAIMS.removesuffix('.yaml')}: "
        if not str(mistake).startswith(start):
            raise
        raise AfmpError(f"{path}: {str(mistake).removeprefix(start)}") from None


def resolve_claims(content: dict) -> list[Claim]:
    """Check the content of a file of claims. Raises AfmpError with the key, the value and what is allowed.

    `check_names` compares their names with a study.
    """
    return [_claim(name, claim) for name, claim in validated(content, "claims")["claims"].items()]


def check_names(claims: list[Claim], study: Study, *, path: Path | str) -> None:
    """Raise AfmpError for the first name in the file `path` of claims that a study does not have, as of a run.

    The file of this project may name what a study lacks: it has the claims of the paper, and a study may be another.
    """
    shipped = sources.PROJECT / CLAIMS
    if shipped.exists() and os.path.samefile(path, shipped):
        return
    with naming(path):
        _check_names(claims, study)


def _check_names(claims: list[Claim], study: Study) -> None:
    for claim in claims:
        for key, found, allowed in _of_sweep(claim, study) if claim.of.of_sweep else _of_runs(claim, study):
            if found not in allowed:
                raise AfmpError(
                    f"claims: claims/{claim.name}/{key}: found {found!r}, which this study does not have"
                    f"{did_you_mean(str(found), list(map(str, allowed)))}; allowed: {', '.join(map(str, allowed))}."
                )


def answerable(claims: list[Claim], study: Study) -> list[Claim]:
    """Return the claims of which a study has at least one run, or the sweep."""
    return [claim for claim in claims if records_of([claim], study)]


def records_of(claims: list[Claim], study: Study) -> list[str]:
    """Return the paths of the records that claims are answered from; none for what the study does not have."""
    found = []
    studies = {one["name"]: one for one in study.studies}
    for claim, semantics in ((one, name) for one in claims for name in one.semantics):
        if claim.of.of_sweep:
            found += [scalability_file(semantics)] if semantics in study.swept_semantics else []
            continue
        named = {study.other_names.get(run, run) for run in (claim.reference, *claim.subjects)}
        study_of_runs = studies.get(claim.study, {"semantics": (), "members": ()})
        for member in study_of_runs["members"] if semantics in study_of_runs["semantics"] else ():
            if member["run"] in named:
                found += result_files(trained_under(member, semantics), [member["run"]], study.seeds)
    return list(dict.fromkeys(found))


def claims_text(content: dict) -> str:
    """Return the content of a file of claims as YAML, without its comments."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def found_claims(project: Path | str) -> str:
    """Return the path of the claims of a workflow: those in the working directory, else those of the project."""
    return os.path.abspath(CLAIMS if os.path.exists(CLAIMS) else Path(project, CLAIMS))


def _claim(name: str, found: dict) -> Claim:
    where, quantity = f"claims: claims/{name}", QUANTITIES[found["quantity"]]
    needed, foreign = (OF_SWEEP, OF_RUNS) if quantity.of_sweep else (OF_RUNS, (*OF_SWEEP, "attention"))
    of_what = "of the sweep" if quantity.of_sweep else "of runs"
    for key in foreign:
        if key in found:
            raise AfmpError(
                f"{where}/{key}: found {found[key]!r}, but {found['quantity']} is a quantity {of_what}; allowed with "
                f"it: {', '.join(needed)}."
            )
    for key in needed:
        if key not in found:
            raise AfmpError(f"{where}/{key}: missing; {found['quantity']} is a quantity {of_what}, which needs it.")
    subjects = found["models" if quantity.of_sweep else "runs"]
    if quantity.of_sweep and found["reference"] not in (allowed := _models()):
        hint = did_you_mean(found["reference"], allowed)
        raise AfmpError(f"{where}/reference: found {found['reference']!r}{hint}; allowed: {', '.join(allowed)}.")
    if found["reference"] in subjects:
        raise AfmpError(
            f"{where}/reference: found {found['reference']!r}, which is among those that are compared with it; name "
            "another one."
        )
    if found["expect"] not in ("higher", "lower") and not found.get("margin"):
        raise AfmpError(
            f"{where}/margin: found {found.get('margin')!r}; allowed with `expect: {found['expect']}`: a number above "
            "0, because no number of random seeds shows that a difference is exactly 0."
        )
    if quantity.kind == "exponents" and len(found["resolutions"]) != 2:
        raise AfmpError(
            f"{where}/resolutions: found {found['resolutions']!r}; allowed with {found['quantity']}: two sizes, "
            "between which it is the exponent."
        )
    keys = {"claim": "words", "runs": "subjects", "models": "subjects"}
    named = {keys.get(key, key): value for key, value in found.items()}
    if "resolutions" in named:
        named["resolutions"] = tuple(named["resolutions"])
    return Claim(name, **named)


def _of_runs(claim: Claim, study: Study) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield the names in a claim about runs, each with its key and the names that the study has."""
    studies = {one["name"]: one for one in study.studies}
    yield "study", claim.study, list(studies)
    of_claim = studies[claim.study]
    yield from (("semantics", name, of_claim["semantics"]) for name in claim.semantics)
    runs = [member["run"] for member in of_claim["members"]]
    runs += [name for name, trained in study.other_names.items() if trained in runs]
    yield from (("runs", run, runs) for run in claim.subjects)
    yield "reference", claim.reference, runs


def _of_sweep(claim: Claim, study: Study) -> Iterator[tuple[str, object, Sequence]]:
    """Yield the names and sizes in a claim about the sweep, each with its key and what the study measures."""
    if not study.scalability:
        raise AfmpError(
            f"claims: claims/{claim.name}/quantity: found {claim.quantity!r}, but this study has no sweep; allowed: "
            f"{', '.join(name for name, quantity in QUANTITIES.items() if not quantity.of_sweep)}."
        )
    yield from (("semantics", name, study.swept_semantics) for name in claim.semantics)
    sweep = study.scalability
    yield from (("models", model, sweep["models"]) for model in claim.subjects)
    yield "reference", claim.reference, sweep["models"]
    yield from (("resolutions", size, sweep["resolutions"]) for size in claim.resolutions)
    keys = ["precision", "mode", "execution"]
    keys += ["attention"] * ("deit_tiny" in (claim.reference, *claim.subjects))  # AFMP has none
    yield from ((key, getattr(claim, key), sweep[key]) for key in keys)


def _models() -> list[str]:
    of_claim = schema("claims")["properties"]["claims"]["additionalProperties"]["properties"]
    return of_claim["models"]["items"]["enum"]
