"""Answers to claims: each comparison of a claim with its evidence, its verdict, and what it would take to tell."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from afmp.analysis import verdicts
from afmp.analysis.fits import resampled_medians
from afmp.analysis.metrics import DIFFERENCE_METRICS, memory_per_image, metric, milliseconds_per_image
from afmp.analysis.models import MODELS_WITH_ATTENTION
from afmp.analysis.verdicts import CANNOT_TELL, Evidence
from afmp.study.claims import Claim, answerable
from afmp.study.config_schema import did_you_mean
from afmp.study.paths import figure_path
from afmp.study.semantics import SWEPT_SEMANTICS, trained_under
from afmp.study.study import Study

NOTHING = Evidence(math.nan, math.nan, 0)
PER_IMAGE = {"step_time": milliseconds_per_image, "step_memory": memory_per_image}


class Comparison(NamedTuple):
    """One comparison of a claim under one semantics: of one run, or of one model at a size (at two, of a growth)."""

    claim: Claim
    semantics: str
    subject: str
    resolutions: tuple[int, ...] = ()


class Answer(NamedTuple):
    """The answer to one comparison.

    - evidence: differences in points; logarithms of model / reference for a ratio; exponents
    - p_value, adjusted: of a two-sided test, and corrected for the tests of the claim under this semantics; NaN if none
    - needed: how many seeds or passes would tell, if it is not told and can be estimated
    - lacking: why there is no evidence, in words
    - measured_by: the device and the versions of each measurement; empty if there is no evidence
    """

    comparison: Comparison
    evidence: Evidence
    p_value: float
    adjusted: float
    verdict: str
    needed: int | None
    lacking: str
    measured_by: list[dict]

    @property
    def effect(self) -> float:
        """The effect as it is shown: in points, as the ratio reference / model, or in exponents."""
        return self._shown(self.evidence.effect)

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval, of one comparison; NaN if it has none."""
        ends = map(self._shown, self.evidence.interval)
        return tuple(sorted(ends))

    def _shown(self, value: float) -> float:
        return math.exp(-value) if self.comparison.claim.of.kind == "ratio" else value


class Answered(NamedTuple):
    """A claim under one semantics: its answers, their joint verdict, the figure and the command behind them."""

    claim: Claim
    semantics: str
    verdict: str
    answers: list[Answer]
    figure: str
    command: str


class Answers(NamedTuple):
    """The answers to a file of claims.

    - answered: every claim of which the study has a run or the sweep, once under each of its semantics
    - left_out: the number of the other claims
    - labels: of runs, by (study, run), as figures and the other tables show them
    """

    answered: list[Answered]
    left_out: int
    labels: Mapping[tuple[str, str], str] = MappingProxyType({})


class _LackingError(Exception):
    """There is no evidence; the message says why."""


def answer_claims(claims: list[Claim], study: Study, records: list[dict]) -> Answers:
    """Return the answers to claims from results and sweeps of a study.

    A claim of which the study has neither a run nor the sweep is left out. What else a claim names and the study does
    not have, or has not computed, gives no evidence: the answer says what it is.
    """
    found, chosen = _Found(study, records), answerable(claims, study)
    answered = [answered for claim in chosen for answered in _answered(claim, found)]
    labels = {(one["name"], member["run"]): member["label"] for one in study.studies for member in one["members"]}
    for name, trained in study.other_names.items():
        labels |= {(of_study, name): label for (of_study, run), label in labels.items() if run == trained}
    return Answers(answered, len(claims) - len(chosen), labels)


def _answered(claim: Claim, found: "_Found") -> Iterator[Answered]:
    for semantics in claim.semantics:
        answers = _answers(claim, semantics, found)
        joint = verdicts.joint([answer.verdict for answer in answers])
        yield Answered(
            claim, semantics, joint, answers, found.figure(claim, semantics), found.command(claim, semantics)
        )


def _answers(claim: Claim, semantics: str, found: "_Found") -> list[Answer]:
    test = {"expect": claim.expect, "margin": threshold(claim)}
    compared = [(comparison, *found.evidence(comparison)) for comparison in _comparisons(claim, semantics)]
    findings = [verdicts.finding(evidence, **test) for _, evidence, _, _ in compared]
    p_values = adjusted = [one.p_value for one in findings]
    tests = 1
    if claim.correction == "holm":
        adjusted, tests = verdicts.holm(p_values), max(1, np.isfinite(p_values).sum())
    answers = []
    for (comparison, evidence, lacking, measured_by), one, p_value in zip(compared, findings, adjusted, strict=True):
        verdict, needed = verdicts.verdict(one, p_value), None
        if verdict == CANNOT_TELL and evidence.is_enough:
            needed = verdicts.values_needed(evidence, **test, comparisons=tests)
        answers.append(Answer(comparison, evidence, one.p_value, p_value, verdict, needed, lacking, measured_by))
    return answers


def _comparisons(claim: Claim, semantics: str) -> list[Comparison]:
    sizes: list[tuple[int, ...]] = [()]
    if claim.of.of_sweep:
        sizes = [claim.resolutions] if claim.of.kind == "exponents" else [(size,) for size in claim.resolutions]
    return [Comparison(claim, semantics, subject, size) for subject in claim.subjects for size in sizes]


def threshold(claim: Claim) -> float:
    """Return the margin in the unit of the evidence: a relative one becomes a logarithm."""
    return math.log1p(claim.margin) if claim.of.kind == "ratio" else claim.margin


class _Found:
    """What a study has computed, as evidence for comparisons."""

    def __init__(self, study: Study, records: list[dict]) -> None:
        sweeps = [record for record in records if "points" in record]
        self.studies = {one["name"]: one for one in study.studies}
        self.trained_names = study.other_names
        self.results: dict[tuple, dict[int, dict]] = {}
        for result in (record for record in records if "points" not in record):
            self.results.setdefault((result["semantics"], result["run"]), {})[result["seed"]] = result
        self.sweeps = {sweep["semantics"]: sweep for sweep in sweeps}
        self.points = {(sweep["semantics"], *_key(point)): point for sweep in sweeps for point in sweep["points"]}

    def evidence(self, comparison: Comparison) -> tuple[Evidence, str, list[dict]]:
        """Return the evidence for a comparison, why there is none, and the device and versions of its measurements."""
        try:
            of_sweep = comparison.claim.of.of_sweep
            evidence, measured_by = self._of_sweep(comparison) if of_sweep else self._of_runs(comparison)
            return evidence, "", measured_by
        except _LackingError as reason:
            return NOTHING, str(reason), []

    def _of_runs(self, comparison: Comparison) -> tuple[Evidence, list[dict]]:
        claim = comparison.claim
        of_run, of_reference = (
            self._results(claim, comparison.semantics, run) for run in (comparison.subject, claim.reference)
        )
        seeds = sorted(of_run.keys() & of_reference.keys())
        if not seeds:
            raise _LackingError(f"{comparison.subject} and {claim.reference} have no random seed in common")
        pairs = [(of_run[seed], of_reference[seed]) for seed in seeds]
        if claim.quantity in DIFFERENCE_METRICS:
            differences = [metric(a, claim.quantity) - metric(b, claim.quantity) for a, b in pairs]
            return verdicts.evidence_of(differences), [
                part for pair in pairs for one in pair for part in one["trained_by"]
            ]
        per_image = PER_IMAGE[claim.quantity]
        values = [(per_image([a]), per_image([b])) for a, b in pairs]
        if not all(a and b for a, b in values):
            raise _LackingError(f"{claim.of.name} was not measured of every random seed")
        if len({one["trained_by"][0]["device"]["name"] for pair in pairs for one in pair}) > 1:
            raise _LackingError("the steps were measured on different devices")
        # Steps are measured before training, so by what began it.
        began = [one["trained_by"][0] for pair in pairs for one in pair]
        return verdicts.evidence_of([math.log(a / b) for (a,), (b,) in values]), began

    def _results(self, claim: Claim, semantics: str, run: str) -> dict[int, dict]:
        study = self.studies[claim.study]
        if semantics not in study["semantics"]:
            raise _LackingError(f"study {claim.study} is not trained under {semantics}")
        members = {member["run"]: member for member in study["members"]}
        trained = self.trained_names.get(run, run)
        if trained not in members:
            raise _LackingError(
                f"study {claim.study} has no run {run}{did_you_mean(run, list(members))}; it has {', '.join(members)}"
            )
        results = self.results.get((trained_under(members[trained], semantics), trained))
        if not results:
            raise _LackingError(f"run {run} has no result yet")
        return results

    def _of_sweep(self, comparison: Comparison) -> tuple[Evidence, list[dict]]:
        """Return the evidence for the logarithm of model / reference, or for the difference of their exponents.

        With it, the device and versions of each point.
        """
        claim = comparison.claim
        models = {comparison.subject: 1.0, claim.reference: -1.0}
        points = [
            (sign, self._point(claim, comparison.semantics, model, size))
            for model, sign in models.items()
            for size in comparison.resolutions
        ]
        if claim.of.kind == "exponents":
            small, large = (points[place][1]["num_patches"] for place in (0, 1))
            per_log_n = 1 / math.log(large / small)
            points = [
                (sign * per_log_n * (1 if point["num_patches"] == large else -1), point) for sign, point in points
            ]
        sweep = self.sweeps[comparison.semantics]
        # A point that was measured earlier than its sweep has its own versions.
        versions = [{key: point.get(key, value) for key, value in sweep["versions"].items()} for _, point in points]
        of_points = _of_times if claim.quantity in ("time", "time_growth") else _of_memory
        return of_points(points), [{"device": sweep["device"], "versions": one} for one in versions]

    def _point(self, claim: Claim, semantics: str, model: str, resolution: int) -> dict:
        if semantics not in self.sweeps:
            raise _LackingError(f"there is no sweep under {semantics}")
        attention = claim.attention if model in MODELS_WITH_ATTENTION else None
        setting = (model, resolution, claim.precision, claim.mode, claim.execution, attention)
        point = self.points.get((semantics, *setting))
        said = f"{model} at {resolution:,} px ({claim.mode}, {claim.precision}, {claim.execution})"
        if point is None:
            raise _LackingError(f"the sweep did not measure {said}")
        if point["status"] != "ok":
            raise _LackingError(f"{said} {'ran out of memory' if point['status'] == 'oom' else 'failed'}")
        return point

    def figure(self, claim: Claim, semantics: str) -> str:
        """Return the path of the figure that shows the quantity, below the results folder; nothing if there is none."""
        shown = self.sweeps if claim.of.of_sweep else self.studies[claim.study]["semantics"]
        return f"{figure_path(semantics, self._figure_name(claim))}.png" if semantics in shown else ""

    def _figure_name(self, claim: Claim) -> str:
        if claim.of.of_sweep:
            return "scalability_fits" if claim.of.kind == "exponents" else "scalability_results"
        return self.studies[claim.study]["figure"]

    def command(self, claim: Claim, semantics: str) -> str:
        """Return the command that computes the numbers behind a claim; nothing if the sweep has none of its sizes."""
        if not claim.of.of_sweep:
            return f"snakemake {self._figure_name(claim)} --cores 4 --resources gpu=1"
        batches = {
            point["resolution"]: point["batch_size"] for key, point in self.points.items() if key[0] == semantics
        }
        sizes = [size for size in claim.resolutions if size in batches]
        if not sizes:
            return ""
        options = {
            "--models": ",".join(dict.fromkeys([*claim.subjects, claim.reference])),
            "--resolutions": ",".join(map(str, sizes)),
            "--batch-size": ",".join(str(batches[size]) for size in sizes),
            "--precision": claim.precision,
            "--mode": claim.mode,
            "--execution": claim.execution,
            "--attention": claim.attention,
            "--semantics": semantics if semantics in SWEPT_SEMANTICS else None,
        }
        return "afmp benchmark sweep " + " ".join(f"{flag} {value}" for flag, value in options.items() if value)


def _key(point: dict) -> tuple:
    return tuple(point[key] for key in ("model", "resolution", "precision", "mode", "execution", "attention"))


def _of_times(points: list[tuple[float, dict]]) -> Evidence:
    """Return the evidence for a sum of weighted logarithms of median times per image; its error is that of medians."""
    effect = sum(weight * math.log(point["time_ms"]["median"] / point["batch_size"]) for weight, point in points)
    generator = np.random.default_rng(0)
    variances = [
        (weight * np.std(np.log(resampled_medians(point, generator)), ddof=1)) ** 2 for weight, point in points
    ]
    return Evidence(effect, math.sqrt(sum(variances)), min(point["time_ms"]["n"] for _, point in points))


def _of_memory(points: list[tuple[float, dict]]) -> Evidence:
    """Return the evidence for a sum of weighted logarithms of peak memory per image, which CUDA's allocator says."""
    if any(point["memory"]["kind"] != "cuda_allocator" for _, point in points):
        raise _LackingError("peak memory is exact on CUDA only")
    effect = sum(weight * math.log(point["memory"]["peak_mb"] / point["batch_size"]) for weight, point in points)
    return Evidence(effect, 0.0, 1, exact=True)
