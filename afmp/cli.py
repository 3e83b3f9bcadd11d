"""The command line: what the workflow's rules do, by hand. `afmp COMMAND --help` says what each takes.

Commands import what they need when they run, so that `afmp --help` and a mistyped flag do not wait for torch.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from afmp import records
from afmp.errors import AfmpError
from afmp.log import INTERRUPTED, show_progress
from afmp.machine.stopping import stop_on_sigterm


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
        return INTERRUPTED
    return 0


def _add_benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    from afmp.benchmark.sweep import ATTENTIONS, EXECUTIONS, MODEL_BUILDERS, MODES, PRECISIONS, SEMANTICS

    add = parser.add_argument
    add("--models", type=_words, default="afmp_small,deit_tiny", help=f"some of {','.join(MODEL_BUILDERS)}")
    add("--resolutions", type=_whole_numbers, default="64,96,128,160,192,224", help="pixels, multiples of 16")
    add("--batch-size", type=_whole_numbers, default="64", help="images in a pass: one number, or one a resolution")
    add("--num-classes", type=int, default=100, help="classes of both models")
    add("--precision", type=_words, default="fp32", help=f"some of {','.join(PRECISIONS)}; fp32 is without TF32")
    add("--mode", type=_words, default="train", help=f"some of {','.join(MODES)}")
    add("--execution", type=_words, default="eager", help=f"some of {','.join(EXECUTIONS)}; graphs need CUDA")
    add("--attention", type=_words, default="fused", help=f"of DeiT-Tiny, some of {','.join(ATTENTIONS)}")
    add("--semantics", choices=SEMANTICS, default="paper", help="which meaning of AFMP")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:<i> or mps")
    add("--warmup", type=int, default=5, help="most passes before the timed ones")
    add("--repeats", type=int, default=100, help="most timed passes")
    add("--seconds", type=float, default=1.5, help="of timed passes after which a point is done")
    group = parser.add_mutually_exclusive_group()
    instead = partial(group.add_argument, dest="measure", action="store_const", default=argparse.SUPPRESS)
    instead(
        "--training",
        const=_benchmark_training,
        help="instead, images a second of whole training steps of the paper's model against a ViT of its size, "
        "batch 128 (heeds --precision, --device, --warmup, --repeats, --seconds, --output)",
    )
    instead(
        "--selection",
        const=_benchmark_selection,
        help="instead, one layer's selection of the k best edges by itself "
        "(heeds --resolutions, --batch-size, --device, --warmup, --repeats, --seconds, --output)",
    )
    instead(
        "--profile",
        const=_benchmark_profile,
        help="instead, what each pass spends its time on: kernels on a GPU, operators on a CPU",
    )
    add("--output", type=Path, metavar="FILE.json", help="where to write the measurements, beside the table shown")


def _benchmark(arguments: argparse.Namespace) -> None:
    from afmp.machine.device_lock import own_device

    with own_device(arguments.device):
        getattr(arguments, "measure", _benchmark_passes)(arguments)


def _benchmark_passes(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.sweep import benchmark_scalability
    from afmp.benchmark.text import format_table

    scalability = benchmark_scalability(
        semantics=[arguments.semantics],
        resolutions=arguments.resolutions,
        batch_sizes=_batch_sizes(arguments),
        num_classes=arguments.num_classes,
        precisions=arguments.precision,
        modes=arguments.mode,
        executions=arguments.execution,
        attentions=arguments.attention,
        device=arguments.device,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        seconds=arguments.seconds,
        models=arguments.models,
        progress=_progress,
    )[arguments.semantics]
    _deliver(arguments, scalability, format_table(scalability), write=records.write_scalability)


def _batch_sizes(arguments: argparse.Namespace) -> list[int]:
    sizes = arguments.batch_size
    return sizes * len(arguments.resolutions) if len(sizes) == 1 else sizes


def _deliver(arguments: argparse.Namespace, content: dict, text: str, *, write=records.write_json) -> None:
    """Write what was found to --output, if given, and show it."""
    if arguments.output:
        write(arguments.output, content)
    print(text)


def _benchmark_selection(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.selection import benchmark_selection, format_selection

    selection = benchmark_selection(
        resolutions=arguments.resolutions,
        batch_sizes=_batch_sizes(arguments),
        device=arguments.device,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        seconds=arguments.seconds,
    )
    _deliver(arguments, selection, format_selection(selection))


def _benchmark_profile(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.profiling import format_profile, profile_models

    profiles = profile_models(
        models=arguments.models,
        resolutions=arguments.resolutions,
        batch_sizes=_batch_sizes(arguments),
        device=arguments.device,
        num_classes=arguments.num_classes,
        semantics=arguments.semantics,
        precision=arguments.precision,
        mode=arguments.mode,
        execution=arguments.execution,
        attention=arguments.attention,
    )
    text = "\n".join(map(format_profile, profiles))
    _deliver(arguments, {"format_version": 1, "profiles": profiles}, text)


def _benchmark_training(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.training_steps import benchmark_training, format_training

    training = benchmark_training(
        precisions=arguments.precision,
        device=arguments.device,
        warmup=arguments.warmup,
        repeats=arguments.repeats,
        seconds=arguments.seconds,
    )
    _deliver(arguments, training, format_training(training))


def _add_parameters_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--num-classes", type=int, default=100, help="classes of every model")
    add("--resolution", type=int, default=224, help="pixels, for AFMP-Small and DeiT-Tiny")
    add("--output", type=Path, metavar="FILE.json", help="where to write the counts, beside the table shown")


def _parameters(arguments: argparse.Namespace) -> None:
    from afmp.analysis.parameter_table import parameters_table
    from afmp.benchmark.sweep import count_parameters

    parameters = count_parameters(arguments.num_classes, arguments.resolution)
    text = parameters_table(parameters).to_string(index=False, formatters={"num_parameters": "{:,}".format})
    _deliver(arguments, parameters, text, write=records.write_parameters)


def _add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", type=Path, default="config.yaml", help="a complete study, for its section `dataset`")
    from afmp.data.download import archive_folder

    folder = archive_folder("results/download")
    add("--download-folder", type=Path, default=folder, help="where archives are kept; AFMP_DATA_DIR is its default")
    add("--output", type=Path, required=True, metavar="FILE.safetensors", help="where to write the dataset")


def _prepare(arguments: argparse.Namespace) -> None:
    from afmp.data.dataset import prepare_dataset
    from afmp.study.study import read_study

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
    from afmp.machine.device_lock import own_device
    from afmp.study import paths
    from afmp.study.study import read_study
    from afmp.training.checkpoint_lock import lock_checkpoints
    from afmp.training.run import Run
    from afmp.training.run_training import train_run

    runs = read_study(arguments.config).runs
    if arguments.run not in runs:
        raise AfmpError(f"--run: {arguments.run!r} is no run of {arguments.config}; allowed: {', '.join(runs)}.")
    run = Run(
        name=arguments.run,
        semantics=arguments.semantics,
        config=runs[arguments.run],
        seed_folders={seed: arguments.output / paths.seed_name(seed) for seed in arguments.seeds},
        checkpoint_folder=arguments.output / paths.CHECKPOINTS,
    )
    with lock_checkpoints(run.checkpoint_folder), own_device(run.config.training.device), stop_on_sigterm():
        train_run(run, dataset_path=arguments.dataset)
    for seed in arguments.seeds:
        folder = run.seed_folders[seed]
        result = records.read_result(folder / paths.result_name(run.name))
        print(f"seed {seed}: test accuracy {result['test_accuracy']:.2f} %, files in {folder}")


def _add_draw_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the results folder of a study")
    add("figures", nargs="*", metavar="FIGURE", help="names of figures, or `diagnostics`; all figures if none is named")
    add("--config", type=Path, default="config.yaml", help="the complete study that was run (no overlay)")
    add("--output", type=Path, required=True, metavar="FOLDER", help="where to write, laid out as RESULTS")


def _draw(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from afmp.figures.catalogue import figures, last_diagnostics
    from afmp.study.study import read_study

    study = asdict(read_study(arguments.config))
    drawings = [*figures(study), *last_diagnostics(study)]
    names = list(dict.fromkeys(drawing.name for drawing in drawings))
    for name in arguments.figures:
        if name not in names:
            raise AfmpError(f"FIGURE: {name!r} is no figure of {arguments.config}; allowed: {', '.join(names)}.")
    for drawing in drawings:
        if drawing.name in (arguments.figures or names):
            drawing.write(source=arguments.results, folder=arguments.output)
            print(arguments.output / drawing.files[0])


def _add_archive_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the results folder of a finished study")
    add("archive", type=Path, metavar="ARCHIVE", help="the folder to make, e.g. archive/2026-01-31-h200")
    add("--config", type=Path, default="config.yaml", help="the complete study that was run (no overlay)")


def _archive(arguments: argparse.Namespace) -> None:
    from afmp.finished.archive import write_archive
    from afmp.study.config_file import read_config

    write_archive(read_config(arguments.config), results=arguments.results, archive=arguments.archive)


def _add_expect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="the archive that gets an expected.yaml")


def _expect(arguments: argparse.Namespace) -> None:
    from afmp.finished.expected import write_expected

    write_expected(arguments.archive)


def _add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="the results folder of a finished study")
    add("--config", type=Path, default="config.yaml", help="the complete study that was run (no overlay)")
    add("--dataset", type=Path, required=True, metavar="FILE.safetensors", help="the prepared dataset trained on")
    add("--archives", type=Path, default="archive", help="folder of archives, whose expected.yaml is held")


def _verify(arguments: argparse.Namespace) -> None:
    from afmp.finished.verify import verify
    from afmp.study.config_file import read_config

    config = read_config(arguments.config)
    verify(config, results=arguments.results, dataset=arguments.dataset, archives=[arguments.archives])


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _whole_numbers(text: str) -> list[int]:
    words = _words(text)
    if not words or not all(map(str.isdecimal, words)):
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: whole numbers with commas between them, as 0,1,2")
    return list(map(int, words))


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


COMMANDS = {
    "prepare": Command("Fetch, check and convert the dataset that a study names.", _add_prepare_arguments, _prepare),
    "train": Command("Train one run of a study; killed, it continues.", _add_train_arguments, _train),
    "benchmark": Command(
        "Time and memory of passes over resolutions, AFMP-Small against DeiT-Tiny; or speed of training.",
        _add_benchmark_arguments,
        _benchmark,
    ),
    "parameters": Command(
        "Trainable parameters of the models that the study compares.", _add_parameters_arguments, _parameters
    ),
    "draw": Command(
        "Draw figures from the records of a study: all of them, diagnostics at the last epoch.",
        _add_draw_arguments,
        _draw,
    ),
    "archive": Command(
        "Put the numbers, tables and figures of a finished study away.", _add_archive_arguments, _archive
    ),
    "expect": Command("Write the ranges that a rerun of an archived study keeps to.", _add_expect_arguments, _expect),
    "verify": Command("Check a finished study, a line for each check.", _add_verify_arguments, _verify),
}

if __name__ == "__main__":
    sys.exit(main())
