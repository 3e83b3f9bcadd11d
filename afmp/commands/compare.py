"""`afmp compare`: the runs of one study side by side, as a table in plain text."""

import argparse

from afmp.commands.parsing import Command, Parser, add_folder_argument
from afmp.errors import AfmpError
from afmp.study.paths import result_files
from afmp.study.semantics import AFMP_SEMANTICS, trained_under


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_folder_argument(parser)
    add("study", metavar="STUDY", help="a name under `studies` in the configuration, e.g. messages")
    add("--reference", metavar="RUN", help="the run that the others are compared with; by default that of the study")
    add("--semantics", choices=AFMP_SEMANTICS, help="by default all under which the study is trained")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.analysis.comparison import comparison_text
    from afmp.finished.results_folder import open_results
    from afmp.study.config_schema import did_you_mean

    opened, config = open_results(arguments.folder, configs=arguments.config)
    studies = {study["name"]: study for study in opened.study.studies}
    if arguments.study not in studies:
        hint = did_you_mean(arguments.study, list(studies))
        raise AfmpError(f"STUDY: {arguments.study!r} is no study of {config}{hint}; allowed: {', '.join(studies)}.")
    study = studies[arguments.study]
    chosen = opened.study.other_names.get(arguments.reference, arguments.reference)
    reference, semantics = _reference(study, chosen), _semantics(study, arguments.semantics)
    contents = opened.read_records(_result_files(study, semantics, opened.study.seeds))
    print(comparison_text(study, list(contents.values()), reference=reference, semantics=semantics))


def _reference(study: dict, chosen: str | None) -> str:
    from afmp.study.config_schema import did_you_mean

    runs = [member["run"] for member in study["members"]]
    if chosen not in (None, *runs):
        hint = did_you_mean(chosen, runs)
        raise AfmpError(
            f"--reference: {chosen!r} is no run of study {study['name']}{hint}; allowed: {', '.join(runs)}."
        )
    return chosen or study["reference"]


def _semantics(study: dict, chosen: str | None) -> list[str]:
    trained = study["semantics"]
    if chosen not in (None, *trained):
        raise AfmpError(
            f"--semantics: study {study['name']} is not trained under {chosen!r}; allowed: {', '.join(trained)}."
        )
    return [chosen] if chosen else trained


def _result_files(study: dict, semantics: list[str], seeds: list[int]) -> list[str]:
    files = [
        path
        for one in semantics
        for member in study["members"]
        for path in result_files(trained_under(member, one), [member["run"]], seeds)
    ]
    return list(dict.fromkeys(files))  # a model of timm has the same files under every semantics


COMMAND = Command("compare", "Compare the runs of a study in a table of plain text.", _add_arguments, _run)
