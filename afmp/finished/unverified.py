"""The refusal to archive or to report a study whose files contradict each other.

Verifying draws every figure again, which may take minutes. The checks that a study has passed are remembered, so that
an archive or a report that is interrupted again and again gets on. They hold for one manifest, which is compared with
all files each time, and for one version of the code. `snakemake verify` remembers nothing.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from afmp.errors import AfmpError
from afmp.files import is_there, read_plain, read_plain_text
from afmp.finished.check import Outcome, make
from afmp.finished.manifest_checks import manifest_check
from afmp.finished.study_files import study_drawings
from afmp.records import MAX_RECORD_BYTES, write_text
from afmp.sources import import_closure, source_hash
from afmp.study.paths import MANIFEST_FILE, PASSED_CHECKS
from afmp.study.study import Study, resolve_study

ALL = "all checks"


def refuse_unverified(config: dict, *, results: Path | str, dataset: Path | str) -> None:
    """Raise AfmpError with the FAIL lines if the files of a finished study contradict each other.

    The ranges of archives are not compared: a rerun outside of them is a result too. Files that the study does not know
    are not looked for: neither a report nor an archive contains them.
    """
    results, study = Path(results), resolve_study(config)
    outcomes = [make(manifest_check(study, results))]
    changed = bool(outcomes[0].faults)
    outcomes += _outcomes(study, results, Path(dataset), notes=None if changed else _notes(study, results))
    failed = [outcome for outcome in outcomes if outcome.faults]
    if failed:
        from afmp.finished.verify import line_of

        raise AfmpError(
            f"{results}: nothing is written, because {len(failed)} checks of `snakemake verify` failed; delete each "
            "file that is named, unless its line says what else to do, and `snakemake all` makes it again.",
            *map(line_of, failed),
        )


def _notes(study: Study, results: Path) -> Path:
    """Return the file of the checks passed; its name is a hash of what decides them."""
    code = source_hash(import_closure("afmp.finished.verify", *{d.module for d in study_drawings(study)}))
    manifest = read_plain(results / MANIFEST_FILE, max_bytes=MAX_RECORD_BYTES)
    decisive = json.dumps([study.to_dict(), code, hashlib.sha256(manifest).hexdigest()])
    return results / PASSED_CHECKS / f"{hashlib.sha256(decisive.encode()).hexdigest()[:16]}.txt"


def _outcomes(study: Study, results: Path, dataset: Path, *, notes: Path | None) -> Iterator[Outcome]:
    """Make the checks that are not in the notes, and note those without a fault. Without notes, make all."""
    passed = set()
    if notes and is_there(notes):
        passed = set(read_plain_text(notes, max_bytes=MAX_RECORD_BYTES).splitlines())
    if ALL in passed:
        return
    # Imported only here: PyTorch loads slowly.
    from afmp.finished.finished_study import FinishedStudy
    from afmp.finished.verify import content_checks

    faults = 0
    for check in content_checks(FinishedStudy(study, results, dataset)):
        if check.subject not in passed:
            outcome = make(check)
            faults += len(outcome.faults)
            if notes and not outcome.faults:
                passed.add(check.subject)
                _write(notes, passed)
            yield outcome
    if notes and not faults:
        _write(notes, passed | {ALL})


def _write(notes: Path, passed: set[str]) -> None:
    with suppress(AfmpError):  # results that can only be read
        write_text(notes, "".join(f"{subject}\n" for subject in sorted(passed)))
        for other in notes.parent.glob("*.txt"):  # of another manifest or code
            if other != notes:
                other.unlink(missing_ok=True)
