"""Claims, answered from the records of a results folder or of an archive."""

from collections.abc import Mapping
from pathlib import Path

from afmp import sources
from afmp.analysis.claims import Answers, answer_claims
from afmp.analysis.table_files import write_tables
from afmp.analysis.tables import claim_tables
from afmp.errors import AfmpError
from afmp.files import is_there
from afmp.finished.opened_archive import OpenedArchive
from afmp.finished.results_folder import ResultsFolder
from afmp.records import write_text
from afmp.study.claims import CLAIMS, Claim, claims_text, records_of, resolve_claims
from afmp.study.paths import CLAIMS_FILE


def answered_claims(claims: list[Claim], opened: ResultsFolder | OpenedArchive) -> Answers:
    """Return the answers to claims from the records that are there.

    Raises AfmpError for a record that is not valid or of another study.
    """
    contents = opened.read_records([path for path in records_of(claims, opened.study) if opened.has(path)])
    return answer_claims(claims, opened.study, list(contents.values()))


def default_claims(opened: ResultsFolder | OpenedArchive) -> Path | None:
    """Return the file of claims to answer where none is named; None for the claims in the archive itself.

    A study in a folder of its own has its claims beside its results. Raises AfmpError if there are none anywhere.
    """
    beside = [] if isinstance(opened, OpenedArchive) else [opened.folder.absolute().parent / CLAIMS]
    for path in (*beside, Path(CLAIMS).absolute()):
        if is_there(path):
            return path
    if isinstance(opened, OpenedArchive) and opened.has(CLAIMS_FILE):
        return None
    if is_there(shipped := sources.PROJECT / CLAIMS):
        return shipped
    raise AfmpError(
        f"{CLAIMS}: no such file in {Path.cwd()}, and {opened.folder} has none; name one: --claims FILE, such as the "
        "claims.yaml of the repository of AFMP."
    )


def write_answers(content: dict, opened: ResultsFolder | OpenedArchive, files: Mapping[str, str]) -> None:
    """Write the table of claims and, as `answered`, the claims themselves. `files` has their paths by name.

    content: of a file of claims. Raises AfmpError as `answered_claims`.
    """
    answers = answered_claims(resolve_claims(content), opened)
    write_text(files["answered"], claims_text(content))
    write_tables(claim_tables(answers), files)
