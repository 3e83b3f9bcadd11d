"""Joining of a sweep: the scalability files of single resolutions become one file."""

from collections.abc import Mapping

from afmp.errors import AfmpError
from afmp.records import validate

COMMIT = ("git_commit", "git_dirty")


def join_resolutions(parts: Mapping[str, dict]) -> dict:
    """Return one sweep from its parts: contents of scalability files of one semantics by path, in the order of points.

    The parts may come from different commits: what matters is the code that measures, and Snakemake watches that. The
    commits of all parts are listed, and where they differ each point has its own. Raises AfmpError if two parts were
    measured on different devices, with different libraries or by different protocols.
    """
    (first_path, first), *others = parts.items()
    expected = _conditions(first)
    for path, part in others:
        conditions = _conditions(part)
        for key, value in expected.items():
            if conditions[key] != value:
                raise AfmpError(
                    f"{path}: {key} {conditions[key]!r} found, but {first_path} has {value!r}; all sizes of a sweep "
                    "must be measured under the same conditions: delete the file with the wrong ones and run again."
                )
    versions = [part["versions"] for part in parts.values()]
    commits = dict.fromkeys(found["git_commit"] for found in versions if found.get("git_commit"))
    dirty = [found["git_dirty"] for found in versions if found.get("git_dirty") is not None]
    commit_of_part = [{key: found.get(key) for key in COMMIT} for found in versions]
    differ = any(commit != commit_of_part[0] for commit in commit_of_part)
    skipped = dict.fromkeys(sentence for part in parts.values() for sentence in part["protocol"]["skipped"])
    sweep = {key: value for key, value in first.items() if key != "checksum"} | {
        "versions": first["versions"]
        | {"git_commit": ", ".join(commits) or None, "git_dirty": any(dirty) if dirty else None},
        "protocol": first["protocol"] | {"skipped": list(skipped)},
        "points": [
            point | (commit if differ else {})
            for part, commit in zip(parts.values(), commit_of_part, strict=True)
            for point in part["points"]
        ],
    }
    validate(sweep, "scalability", where="joined sweep")
    return sweep


def _conditions(part: dict) -> dict:
    may_differ = (*COMMIT, "skipped")
    groups = ("device", "versions", "protocol")
    conditions = {
        f"{group}/{key}": value for group in groups for key, value in part[group].items() if key not in may_differ
    }
    return {"semantics": part["semantics"]} | conditions
