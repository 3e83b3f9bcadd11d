"""A sweep from its parts: one scalability file of each resolution becomes that of the sweep."""

from collections.abc import Mapping

from afmp.errors import AfmpError
from afmp.records import validate

COMMIT = ("git_commit", "git_dirty")


def join_resolutions(parts: Mapping[str, dict]) -> dict:
    """One sweep from parts of it (contents of scalability files of one semantics, by path), points in the order given.

    A commit is no condition of a measurement, the code that measures is, and Snakemake watches that: the commits of all
    parts are named, and where they differ each point says its own. Raises AfmpError where two parts were measured on
    different devices, with different libraries or by different protocols.
    """
    (first_path, first), *others = parts.items()
    wanted = _conditions(first)
    for path, part in others:
        conditions = _conditions(part)
        for key, value in wanted.items():
            if (found := conditions[key]) != value:
                raise AfmpError(
                    f"{path}: {key} {found!r} found, but {first_path} has {value!r}; the sizes of one sweep are "
                    "measured under the same conditions: delete the one not as wanted, and it is measured again."
                )
    versions = [part["versions"] for part in parts.values()]
    commits = dict.fromkeys(found["git_commit"] for found in versions if found.get("git_commit"))
    changed = [found["git_dirty"] for found in versions if found.get("git_dirty") is not None]
    own = [{key: found.get(key) for key in COMMIT} for found in versions]
    differ = any(one != own[0] for one in own)
    skipped = dict.fromkeys(sentence for part in parts.values() for sentence in part["protocol"]["skipped"])
    sweep = {key: value for key, value in first.items() if key != "checksum"} | {
        "versions": first["versions"]
        | {"git_commit": ", ".join(commits) or None, "git_dirty": any(changed) if changed else None},
        "protocol": first["protocol"] | {"skipped": list(skipped)},
        "points": [
            point | (commit if differ else {})
            for part, commit in zip(parts.values(), own, strict=True)
            for point in part["points"]
        ],
    }
    validate(sweep, "scalability", where="joined sweep")
    return sweep


def _conditions(part: dict) -> dict:
    free = (*COMMIT, "skipped")
    groups = ("device", "versions", "protocol")
    own = {f"{group}/{key}": value for group in groups for key, value in part[group].items() if key not in free}
    return {"semantics": part["semantics"]} | own
