"""`afmp claims`: the verdict on each claim about a study, as plain text."""

import argparse
from pathlib import Path

from afmp.commands.parsing import Command, Parser, add_folder_argument


def _add_arguments(parser: Parser) -> None:
    add_folder_argument(parser)
    parser.add_argument(
        "--claims",
        type=Path,
        metavar="FILE",
        help="the claims (by default claims.yaml beside a results folder, else in the working directory, else in an "
        "archive, else that of AFMP)",
    )
    parser.add_argument("--short", action="store_true", help="only the verdicts, a line for each")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.analysis.claim_tables import claims_text, verdicts_text
    from afmp.analysis.claim_wording import too_short
    from afmp.files import is_there
    from afmp.finished.answered_claims import answered_claims, default_claims
    from afmp.finished.results_folder import open_results
    from afmp.study.claims import check_names, read_claims, resolve_claims
    from afmp.study.config_file import read_config
    from afmp.study.overlays import SHIPPED
    from afmp.study.study import resolve_elsewhere

    opened, _ = open_results(arguments.folder, configs=arguments.config)
    path = arguments.claims or default_claims(opened)
    if path is None:  # answered once already, so no name is wrong
        claims = resolve_claims(opened.read_claims())
    else:
        claims = read_claims(path)
        check_names(claims, opened.study, path=path)
    as_text = verdicts_text if arguments.short else claims_text
    answers = answered_claims(claims, opened)
    texts = [as_text(answers)]
    if is_there(SHIPPED):  # not in an installed package
        texts.append(too_short(answers, opened.study, resolve_elsewhere(read_config(SHIPPED))))
    print(("\n" if arguments.short else "\n\n").join(filter(None, texts)))


COMMAND = Command("claims", "Say of each claim about a study whether it holds.", _add_arguments, _run)
