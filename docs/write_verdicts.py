"""The table of verdicts in README, answered from the records of an archive.

README names the archive, below the folder of this project, in the first of two comments, and the table is between them:

    <!-- verdicts: archive/2026-01-31-h200 -->
    <!-- end of verdicts -->

`python docs/write_verdicts.py` writes the table into README.md, or into the file named as its argument.
"""

import re
import sys
from pathlib import Path

from afmp.analysis.claim_tables import short_claims
from afmp.analysis.printed_tables import markdown_rows
from afmp.errors import AfmpError
from afmp.finished.answered_claims import answered_claims
from afmp.finished.opened_archive import open_archive
from afmp.records import write_text
from afmp.study.claims import CLAIMS, read_claims

PROJECT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- verdicts: (\S+) -->\n).*?(<!-- end of verdicts -->\n)", re.DOTALL)


def with_verdicts(text: str, *, where: Path) -> str:
    """Return the text of README with the present table. Raises AfmpError if it does not have the comments once."""
    blocks = BLOCK.findall(text)
    if len(blocks) != 1:
        raise AfmpError(
            f"{where}: found {len(blocks)} tables of verdicts; allowed: one, between a line "
            "<!-- verdicts: archive/<name> --> and a line <!-- end of verdicts -->."
        )
    ((start, archive, end),) = blocks
    answers = answered_claims(read_claims(PROJECT / CLAIMS), open_archive(PROJECT / archive))
    table = markdown_rows(short_claims(answers))
    return BLOCK.sub(lambda _: f"{start}\n{table}\n{end}", text)


def main() -> None:
    """Write the table into the file."""
    readme = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "README.md"
    try:
        write_text(readme, with_verdicts(readme.read_text(encoding="utf-8"), where=readme))
    except AfmpError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
