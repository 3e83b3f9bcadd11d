"""The command line: what the workflow's rules do, by hand. `afmp COMMAND --help` says what each takes.

Commands import what they need when they run, so that `afmp --help` and a mistyped flag do not wait for torch.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from afmp import records
from afmp.errors import AfmpError
from afmp.log import show_progress


@dataclass(frozen=True)
class Command:
    """One sub-command: a line of help, a function that declares its flags, and one that runs it."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command and return the exit status: 2, and one line on stderr, for an AfmpError."""
    parser = argparse.ArgumentParser(prog="afmp", description="Adaptive message passing between image patches.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=command.summary,
            description=command.summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    try:
        with show_progress():
            COMMANDS[arguments.command].run(arguments)
    except AfmpError as error:
        print(f"afmp {arguments.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"afmp {arguments.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _add_benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    from afmp.benchmark import COMPILE_MODES, MODEL_BUILDERS, PRECISIONS, SEMANTICS

    add = parser.add_argument
    add("--models", type=_words, default="afmp_small,deit_tiny", help=f"some of {','.join(MODEL_BUILDERS)}")
    add("--resolutions", type=_whole_numbers, default="64,96,128,160,192,224", help="pixels, multiples of 16")
    add("--batch-size", type=int, default=64, help="images in a pass")
    add("--num-classes", type=int, default=100, help="classes of both models")
    add("--precision", choices=PRECISIONS, default="fp32", help="fp32 is without TF32")
    add("--semantics", choices=SEMANTICS, default="paper", help="which meaning of AFMP")
    add("--attention", choices=("fused", "plain"), default="fused", help="of DeiT-Tiny")
    add("--compile", choices=COMPILE_MODES, default="none", help="mode of torch.compile")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:<i> or mps")
    add("--warmup", type=int, default=5, help="passes before the timed ones")
    add("--repeats", type=int, default=10, help="timed passes")
    add(
        "--output",
        type=Path,
        metavar="FILE.json",
        help="where to write the measurements, beside the table shown",
    )


def _benchmark(arguments: argparse.Namespace) -> None:
    from afmp.benchmark import benchmark_scalability
    from afmp.tables import format_table

    scalability = benchmark_scalability(
        semantics=arguments.semantics,
        resolutions=arguments.resolutions,
        batch_size=arguments.batch_size,
        num_classes=arguments.num_classes,
        precision=arguments.precision,
        fused_attention=arguments.attention == "fused",
        compile_mode=arguments.compile,
        device=arguments.device,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        models=arguments.models,
        progress=_progress,
    )
    if arguments.output:
        records.write_scalability(arguments.output, scalability)
    print(format_table(scalability))


def _add_parameters_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--num-classes", type=int, default=100, help="classes of every model")
    add("--resolution", type=int, default=224, help="pixels, for AFMP-Small and DeiT-Tiny")
    add("--output", type=Path, metavar="FILE.json", help="where to write the counts, beside the table shown")


def _parameters(arguments: argparse.Namespace) -> None:
    from afmp.benchmark import count_parameters
    from afmp.tables import parameters_table

    parameters = count_parameters(arguments.num_classes, arguments.resolution)
    if arguments.output:
        records.write_parameters(arguments.output, parameters)
    print(parameters_table(parameters).to_string(index=False, formatters={"num_parameters": "{:,}".format}))


def _add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, default="config.yaml", help="a complete study, for its section `dataset`")
    add("--download-folder", type=Path, default="results/download", help="where archives are kept")
    add("--output", type=Path, required=True, metavar="FILE.safetensors", help="where to write the dataset")


def _prepare(arguments: argparse.Namespace) -> None:
    from afmp.datasets import prepare_dataset
    from afmp.study import read_study

    dataset = vars(read_study(arguments.config).dataset)
    prepare_dataset(dataset, arguments.output, download_folder=arguments.download_folder)


def _add_train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, default="config.yaml", help="a complete study (no overlay)")
    add("--run", required=True, help="a run of the study")
    add("--semantics", choices=("paper", "notebook"), default="paper", help="which meaning of AFMP")
    add("--seeds", type=_whole_numbers, default="0", help="random seeds, e.g. 0,1,2")
    add("--dataset", type=Path, required=True, metavar="FILE.safetensors", help="as `afmp prepare` wrote it")
    add("--output", type=Path, required=True, metavar="FOLDER", help="where FOLDER/seed_<seed>/ and checkpoints go")


def _train(arguments: argparse.Namespace) -> None:
    from afmp.study import read_study
    from afmp.training import train_run

    runs = read_study(arguments.config).runs
    if arguments.run not in runs:
        raise AfmpError(f"--run: {arguments.run!r} is no run of {arguments.config}; allowed: {', '.join(runs)}.")
    train_run(
        runs[arguments.run],
        run=arguments.run,
        semantics=arguments.semantics,
        seeds=arguments.seeds,
        dataset_path=arguments.dataset,
        seed_folders={seed: arguments.output / f"seed_{seed}" for seed in arguments.seeds},
        checkpoint_folder=arguments.output / "checkpoints",
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole_numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


COMMANDS = {
    "prepare": Command("Fetch, check and convert the dataset that a study names.", _add_prepare_arguments, _prepare),
    "train": Command("Train one run of a study; killed, it continues.", _add_train_arguments, _train),
    "benchmark": Command(
        "Time and peak memory of training passes over resolutions, AFMP-Small against DeiT-Tiny.",
        _add_benchmark_arguments,
        _benchmark,
    ),
    "parameters": Command(
        "Trainable parameters of the models that the study compares.", _add_parameters_arguments, _parameters
    ),
}

if __name__ == "__main__":
    sys.exit(main())
