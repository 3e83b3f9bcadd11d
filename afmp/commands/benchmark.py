"""`afmp benchmark`: measurements of time and memory, one subcommand each."""

import argparse

from afmp.analysis.models import MODELS
from afmp.benchmark.settings import (
    ATTENTIONS,
    EXECUTIONS,
    MODES,
    PRECISIONS,
    TRAINED_SEMANTICS,
    PassSettings,
    SweepSettings,
)
from afmp.commands.parsing import (
    Command,
    Parser,
    add_commands,
    add_output_option,
    check_output,
    deliver,
    whole_numbers,
    words,
)
from afmp.study.semantics import SWEPT_SEMANTICS

RESOLUTIONS = "64,96,128,160,192,224"


def sweep_from_arguments(arguments: argparse.Namespace) -> SweepSettings:
    """Return the settings of `afmp benchmark sweep`."""
    return SweepSettings(**_passes(arguments), **_timing(arguments))


def _passes(arguments: argparse.Namespace) -> dict:
    lists = ("models", "precision", "mode", "execution", "attention")
    return {
        "resolutions": tuple(arguments.resolutions),
        "batch_size": _batch_sizes(arguments),
        "semantics": (arguments.semantics,),
        "num_classes": arguments.num_classes,
        "device": arguments.device,
        **{key: tuple(getattr(arguments, key)) for key in lists},
    }


def _timing(arguments: argparse.Namespace) -> dict:
    return {"warmup": arguments.warmup, "repeats": arguments.repeats, "seconds": arguments.seconds}


def _batch_sizes(arguments: argparse.Namespace) -> tuple[int, ...]:
    sizes = arguments.batch_size
    return tuple(sizes * len(arguments.resolutions) if len(sizes) == 1 else sizes)


def _add_size_options(parser: Parser, *, resolutions: str = RESOLUTIONS) -> None:
    add = parser.add_argument
    add("--resolutions", type=whole_numbers, default=resolutions, help="sides of the images, pixels, multiples of 16")
    add("--batch-size", type=whole_numbers, default="64", help="images per pass: one number, or one per resolution")


def _add_pass_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--models", type=words, default=",".join(MODELS), help=f"some of {','.join(MODELS)}")
    add("--num-classes", type=int, default=100, help="classes of every model")
    add("--precision", type=words, default="fp32", help=f"some of {','.join(PRECISIONS)}; fp32 is without TF32")
    add("--mode", type=words, default="train", help=f"some of {','.join(MODES)}")
    add("--execution", type=words, default="eager", help=f"some of {','.join(EXECUTIONS)}; the last three need CUDA")
    add("--attention", type=words, default="fused", help=f"of DeiT-Tiny, some of {','.join(ATTENTIONS)}")
    add("--semantics", choices=SWEPT_SEMANTICS, default="paper", help="semantics of afmp_small")


def _add_timing_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--warmup", type=int, default=5, help="at most so many passes before the timed ones")
    add("--repeats", type=int, default=100, help="at most so many timed passes")
    add("--seconds", type=float, default=1.5, help="timing ends after this time, but not before 5 passes")


def _add_common_options(parser: Parser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<i> or mps")
    add_output_option(parser, "where to write the measurements")


def _add_sweep_arguments(parser: Parser) -> None:
    _add_size_options(parser)
    _add_pass_options(parser)
    _add_timing_options(parser)
    _add_common_options(parser)


def _run_sweep(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.sweep import run_sweep
    from afmp.benchmark.text import format_sweep
    from afmp.machine.device_lock import own_device
    from afmp.records import write_scalability

    settings = sweep_from_arguments(arguments)
    check_output(arguments)
    with own_device(settings.device):
        sweep = run_sweep(settings)[arguments.semantics]
    deliver(arguments, sweep, format_sweep(sweep), write=write_scalability)


def _add_training_arguments(parser: Parser) -> None:
    add = parser.add_argument
    add("--semantics", choices=TRAINED_SEMANTICS, default="paper", help="semantics of AFMP")
    add("--precision", type=words, default="fp32", help="some of fp32,tf32,bf16; fp32 is without TF32")
    _add_timing_options(parser)
    _add_common_options(parser)


def _run_training(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.training_steps import benchmark_training, format_training
    from afmp.machine.device_lock import own_device
    from afmp.records import write_json

    check_output(arguments)
    with own_device(arguments.device):
        training = benchmark_training(
            semantics=arguments.semantics,
            precision=arguments.precision,
            device=arguments.device,
            **_timing(arguments),
        )
    deliver(arguments, training, format_training(training), write=write_json)


def _add_selection_arguments(parser: Parser) -> None:
    _add_size_options(parser)
    _add_timing_options(parser)
    _add_common_options(parser)


def _run_selection(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.selection import benchmark_selection, format_selection
    from afmp.machine.device_lock import own_device
    from afmp.records import write_json

    check_output(arguments)
    with own_device(arguments.device):
        selection = benchmark_selection(
            resolutions=arguments.resolutions,
            batch_size=_batch_sizes(arguments),
            device=arguments.device,
            **_timing(arguments),
        )
    deliver(arguments, selection, format_selection(selection), write=write_json)


def _add_profile_arguments(parser: Parser) -> None:
    _add_size_options(parser, resolutions="224")
    _add_pass_options(parser)
    _add_common_options(parser)


def _run_profile(arguments: argparse.Namespace) -> None:
    from afmp.benchmark.profiling import format_profile, profile_models
    from afmp.machine.device_lock import own_device
    from afmp.records import write_json

    check_output(arguments)
    with own_device(arguments.device):
        profiles = profile_models(PassSettings(**_passes(arguments)))
    text = "\n".join(map(format_profile, profiles))
    deliver(arguments, {"format_version": 1, "profiles": profiles}, text, write=write_json)


SUBCOMMANDS = (
    Command(
        "sweep",
        "Time and memory by image size, AFMP against DeiT-Tiny.",
        _add_sweep_arguments,
        _run_sweep,
    ),
    Command(
        "training",
        "Images per second in training, AFMP against a ViT of its size.",
        _add_training_arguments,
        _run_training,
    ),
    Command(
        "selection",
        "Time to select the k best edges of each image.",
        _add_selection_arguments,
        _run_selection,
    ),
    Command(
        "profile",
        "Kernels (GPU) or operators (CPU) of a pass, longest first.",
        _add_profile_arguments,
        _run_profile,
    ),
)


def _add_arguments(parser: Parser) -> None:
    add_commands(parser, SUBCOMMANDS)


COMMAND = Command("benchmark", "Measure time and memory of passes and of training.", _add_arguments)
