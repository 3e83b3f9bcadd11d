"""`afmp train`: one run of a study."""

import argparse
from pathlib import Path

from afmp import records
from afmp.commands.parsing import Command, Parser, add_config_option, config_name, study_config, whole_numbers
from afmp.errors import AfmpError
from afmp.machine.stopping import stop_on_sigterm
from afmp.study.semantics import AFMP_SEMANTICS


def _add_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add_config_option(parser, "the study")
    add("--run", required=True, help="name of a run of the study")
    add("--semantics", choices=AFMP_SEMANTICS, help="by default paper, or the one under which the study trains the run")
    add("--seeds", type=whole_numbers, default="0", help="random seeds, e.g. 0,1,2")
    add("--dataset", type=Path, required=True, metavar="FILE.safetensors", help="a file that `afmp prepare` wrote")
    add("--output", type=Path, required=True, metavar="FOLDER", help="folder for seed_<seed>/ and checkpoints/")


def _run(arguments: argparse.Namespace) -> None:
    from afmp.machine.device_lock import own_device
    from afmp.study import paths
    from afmp.study.config_schema import did_you_mean
    from afmp.study.study import resolve_study
    from afmp.training.checkpoint_lock import lock_checkpoints
    from afmp.training.run import Run
    from afmp.training.run_training import train_run
    from afmp.training.tensorboard import record_training

    study = resolve_study(study_config(arguments))
    # Of two names for one run, either may be trained here: this command makes no figure that would show the other one.
    runs = study.runs | {name: study.runs[trained] for name, trained in study.other_names.items()}
    if arguments.run not in runs:
        raise AfmpError(
            f"--run: {arguments.run!r} is no run of {config_name(arguments)}{did_you_mean(arguments.run, list(runs))}; "
            f"allowed: {', '.join(runs)}."
        )
    config = runs[arguments.run]
    if config.model.is_rival and arguments.semantics:
        raise AfmpError(
            f"--semantics: {arguments.semantics!r} is for AFMP, but run {arguments.run!r} is a model of timm; leave "
            "--semantics out."
        )
    trained = study.other_names.get(arguments.run, arguments.run)
    under = [semantics for semantics, name in study.trainings if name == trained]
    run = Run(
        name=arguments.run,
        semantics=arguments.semantics or ("paper" if "paper" in under else under[0]),
        config=config,
        seed_folders={seed: arguments.output / paths.seed_name(seed) for seed in arguments.seeds},
        checkpoint_folder=arguments.output / paths.CHECKPOINTS,
    )
    for folder in run.seed_folders.values():
        records.check_can_write(folder / paths.result_name(run.name))
    scalars = arguments.output / paths.TENSORBOARD if study.tensorboard else None
    with (
        lock_checkpoints(run.checkpoint_folder),
        own_device(run.config.training.device),
        stop_on_sigterm(),
        record_training(run, scalars),
    ):
        train_run(run, dataset_path=arguments.dataset)
    for seed in arguments.seeds:
        folder = run.seed_folders[seed]
        result = records.read_result(folder / paths.result_name(run.name))
        print(f"seed {seed}: test accuracy {result['test_accuracy']:.2f} %, files in {folder}")


COMMAND = Command("train", "Train one run of a study, or resume an interrupted one.", _add_arguments, _run)
