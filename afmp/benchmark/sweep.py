"""AFMP-Small against DeiT-Tiny: the scalability sweep over resolutions, and the parameter counts.

All configurations of one resolution, batch, precision and mode are measured in one process (`measurement`), with
both models alive and timed in turn, so that a drift of the machine meets them alike. What goes wrong with one of them
is recorded in its point, and the sweep goes on. This file needs no torch until parameters are counted.
"""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from afmp.benchmark.progress import SweepProgress
from afmp.errors import AfmpError
from afmp.machine.isolation import IsolatedCallError, run_isolated
from afmp.records import validate

# Names of functions and not the functions: the process that measures a point imports its own.
MODEL_BUILDERS = {
    "afmp_small": "afmp.benchmark.measurement:build_afmp_small",
    "deit_tiny": "afmp.benchmark.measurement:build_deit_tiny",
}
MODELS_WITH_ATTENTION = ("deit_tiny",)
MODELS_WITH_SEMANTICS = ("afmp_small",)
PATCH_SIZE = 16  # of both models
SEMANTICS = ("paper", "notebook")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
MODES = ("train", "inference")
EXECUTIONS = ("eager", "compiled", "graph", "compiled_graph")
ATTENTIONS = ("fused", "plain")
CUDA_ONLY = {"tf32": "TF32 products exist", "graph": "CUDA graphs exist", "compiled_graph": "CUDA graphs exist"}
SETTINGS = {
    "semantics": SEMANTICS,
    "models": tuple(MODEL_BUILDERS),
    "precision": PRECISIONS,
    "mode": MODES,
    "execution": EXECUTIONS,
    "attention": ATTENTIONS,
}
# The largest size of the seed's sweep: above it a batch shrinks to hold its number of patches.
FULL_BATCH_RESOLUTION = 224

MOST_PIXELS_WITHOUT_CUDA = 224  # a side of the images, in a sweep through the workflow


def reduced_batch_sizes(resolutions: Sequence[int], batch_size: int) -> list[int]:
    """Images a pass at each resolution (pixels): `batch_size` up to 224 px, then no more patches in all, at least 1."""
    most = batch_size * FULL_BATCH_RESOLUTION**2
    return [batch_size if r <= FULL_BATCH_RESOLUTION else max(1, most // r**2) for r in resolutions]


def benchmark_scalability(
    *,
    semantics: Sequence[str],
    resolutions: Sequence[int],
    batch_sizes: Sequence[int],
    num_classes: int = 100,
    precisions: Sequence[str] = ("fp32",),
    modes: Sequence[str] = ("train",),
    executions: Sequence[str] = ("eager",),
    attentions: Sequence[str] = ("fused",),
    device: str = "auto",
    warmup: int = 5,
    repeats: int = 30,
    seconds: float = 1.0,
    models: Sequence[str] = tuple(MODEL_BUILDERS),
    skip_impossible: bool = False,
    part_of: Sequence[int] = (),
    progress: Callable[[str], None] = print,
    unfinished: Path | str | None = None,
) -> dict[str, dict]:
    """Time and memory of each model's passes at each resolution (pixels, square images) in every configuration given.

    - semantics: AFMP is one more model under each; what has no semantics is measured once for all
    - batch_sizes: images a pass, one for each resolution
    - precisions: fp32 is without TF32, bf16 and fp16 are autocast
    - modes: train (forward, loss, backward) or inference (forward without gradients, eval mode)
    - executions: eager, compiled (torch.compile), graph (the pass as one CUDA graph), compiled_graph (both)
    - attentions: of DeiT-Tiny, PyTorch's fused attention or plain products of matrices
    - warmup, repeats, seconds: most untimed and timed passes; fewer, but at least 5, once they took `seconds`
    - skip_impossible: leave out what the device lacks or would need days for, and say so, instead of raising
    - part_of: all resolutions of the sweep that these are a part of, where it is measured in parts: what needs days is
      left out as the whole sweep would, so a part may end without a point
    - progress: gets a line of text for every finished point
    - unfinished: a file that keeps what is measured until the sweep ends; a killed one goes on from it

    Returns, by semantics, the content of a scalability file (schemas/scalability.schema.yaml), validated. A point that
    ran out of memory has status "oom", one that failed otherwise "error". Raises AfmpError for an argument that
    no point could be measured with.
    """
    check_settings(
        semantics=semantics,
        models=models,
        precision=precisions,
        mode=modes,
        execution=executions,
        attention=attentions,
    )
    for key, value in {"num_classes": num_classes, "warmup": warmup, "repeats": repeats}.items():
        _check_count(key, value)
    check_sizes(resolutions, batch_sizes)
    machine = run_isolated("afmp.benchmark.measurement:describe_device", {"device": device})
    skipped = lacking(machine, precision=precisions, execution=executions)
    sizes = list(zip(resolutions, batch_sizes, strict=True))
    if machine["device"]["type"] != "cuda":
        precisions, executions = ([v for v in values if v not in CUDA_ONLY] for values in (precisions, executions))
        if skipped and not (skip_impossible and precisions and executions):
            raise AfmpError(skipped[0])
        if skip_impossible:
            kept_resolutions, precisions, executions, note = _short_sweep(
                list(part_of or resolutions), precisions, executions, machine
            )
            sizes = [size for size in sizes if size[0] in kept_resolutions]
            skipped += note
    candidates = candidates_of(models, semantics, attentions, executions)
    scalability = {
        "format_version": 2,
        "semantics": None,
        "device": machine["device"],
        "versions": machine["versions"],
        "protocol": {
            "warmup": warmup,
            "repeats": repeats,
            "seconds": seconds,
            "num_classes": num_classes,
            "cpu_threads": machine["cpu_threads"],
            "skipped": skipped,
        },
        "points": [],
    }
    # The commit is no circumstance: the code that measures is one, and another commit may have the same.
    libraries = {name: found for name, found in machine["versions"].items() if not name.startswith("git_")}
    kept = SweepProgress(unfinished, scalability | {"versions": libraries}) if unfinished else None
    found = {meaning: scalability | {"semantics": meaning, "points": []} for meaning in semantics}
    common = {key: scalability["protocol"][key] for key in ("warmup", "repeats", "seconds", "num_classes")}
    common["device"] = machine["torch_device"]
    done, total = 0, len(sizes) * len(precisions) * len(modes) * len(candidates)
    for (resolution, batch_size), precision, mode in product(sizes, precisions, modes):
        setting = {"resolution": resolution, "batch_size": batch_size, "precision": precision, "mode": mode}
        group = {"setting": setting, "candidates": candidates}
        outcomes = kept and kept.find(group)
        before = "" if outcomes is None else ", kept from before"
        if outcomes is None:
            outcomes = _measure_group(candidates, setting | common)
            if kept:
                kept.add(group, outcomes)
        for candidate, measured in zip(candidates, outcomes, strict=True):
            what = {key: value for key, value in candidate.items() if key != "semantics"}
            point = what | setting | {"num_patches": (resolution // PATCH_SIZE) ** 2} | measured
            meaning, done = candidate["semantics"], done + 1
            for own in [meaning] if meaning else semantics:
                found[own]["points"].append(point)
            whose = f" [{meaning}]" if meaning and len(semantics) > 1 else ""
            progress(f"[{done}/{total}] {described(point)}{whose}: {outcome(point)}{before}")
    for scalability in found.values():
        validate(scalability, "scalability", where="scalability sweep")
    if kept:
        kept.remove()
    return found


def count_parameters(num_classes: int = 100, resolution: int = 224) -> dict:
    """Trainable parameters of the models that are compared, as the content of a parameters file, validated.

    `resolution` (pixels) is that of AFMP-Small and DeiT-Tiny; AFMP-Small's count does not depend on it,
    DeiT-Tiny's does through its position embedding. The model of the accuracy studies always reads 32 px
    images.
    """
    from afmp.benchmark.measurement import build_afmp_small, build_deit_tiny
    from afmp.model.sizes import afmp_tiny

    _check_resolution(resolution)
    if num_classes < 1:
        raise AfmpError(f"num_classes: {num_classes} found; at least 1 is needed.")
    small = {
        "image_size": resolution,
        "num_classes": num_classes,
        "semantics": "paper",
        "fused_attention": True,
    }
    tiny = {"img_size": 32, "num_classes": num_classes}
    studied = "AFMP of the accuracy studies: 4 layers, 128 channels, patch 8"
    rows = [
        ("afmp_small", "AFMP-Small: 5 layers, 512 channels, patch 16", build_afmp_small(**small)[0]),
        ("deit_tiny", "DeiT-Tiny: timm's deit_tiny_patch16_224", build_deit_tiny(**small)[0]),
        ("afmp_tiny", f"{studied}, with top-down refinement", afmp_tiny(**tiny)),
        ("afmp_tiny_no_top_down", f"{studied}, without it", afmp_tiny(**tiny, use_top_down=False)),
    ]
    parameters = {
        "format_version": 1,
        "num_classes": num_classes,
        "models": [
            {
                "model": name,
                "description": description,
                "resolution": 32 if name.startswith("afmp_tiny") else resolution,
                "num_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            }
            for name, description, model in rows
        ],
    }
    validate(parameters, "parameters", where="parameter counts")
    return parameters


def candidates_of(
    models: Sequence[str], semantics: Sequence[str], attentions: Sequence[str], executions: Sequence[str]
) -> list[dict]:
    """What is measured in each setting: model, attention, execution, semantics; None where a model has no choice."""
    return [
        {"model": model, "attention": attention, "execution": execution, "semantics": meaning}
        for model in models
        for meaning in (semantics if model in MODELS_WITH_SEMANTICS else [None])
        for attention in (attentions if model in MODELS_WITH_ATTENTION else [None])
        for execution in executions
    ]


def job_of(candidate: dict) -> dict:
    """A candidate as `measurement` takes it."""
    return {
        "builder": MODEL_BUILDERS[candidate["model"]],
        "semantics": candidate["semantics"],
        "fused_attention": candidate["attention"] != "plain",
        "execution": candidate["execution"],
    }


def _measure_group(candidates: list[dict], arguments: dict) -> list[dict]:
    """Outcomes of the candidates, measured together; who fails there has a second try alone.

    Together two graphs may not fit into a memory that holds each of them; and what ends the process ends it for all.
    """
    if arguments["device"].startswith("cuda"):
        return _measure_together(candidates, arguments, reads=["memory", "time"])
    outcomes = _measure_together(candidates, arguments, reads=["time"])
    # Outside CUDA, memory is the process's own and never shrinks: each candidate's is read in a process without others.
    for candidate, measured in zip(candidates, outcomes, strict=True):
        if measured["status"] == "ok":
            alone = _measure([candidate], arguments, reads=["memory"])[0]
            measured |= {"memory": alone["memory"]} if alone["status"] == "ok" else alone
    return outcomes


def _measure_together(candidates: list[dict], arguments: dict, *, reads: list[str]) -> list[dict]:
    outcomes = _measure(candidates, arguments, reads=reads)
    if len(candidates) == 1:
        return outcomes
    return [
        measured if measured["status"] == "ok" else _measure([candidate], arguments, reads=reads)[0]
        for candidate, measured in zip(candidates, outcomes, strict=True)
    ]


def _measure(candidates: list[dict], arguments: dict, *, reads: list[str]) -> list[dict]:
    jobs = {"candidates": list(map(job_of, candidates)), "reads": reads}
    try:
        return run_isolated("afmp.benchmark.measurement:measure", arguments | jobs)
    except IsolatedCallError as error:  # the process ended, so none of them has an answer
        failed = {
            "status": "oom" if error.out_of_memory else "error",
            "error": str(error),
            "num_parameters": None,
            "implementation": None,
            "interleaved": False,
            "time_ms": None,
            "memory": None,
        }
        return [dict(failed) for _ in candidates]


def lacking(machine: dict, **lists: Sequence[str]) -> list[str]:
    """A sentence for each value that exists on CUDA devices only, if `machine` (of `describe_device`) is none."""
    found = machine["device"]["type"]
    return [
        f"{key}: {value!r} found; {CUDA_ONLY[value]} on CUDA devices only, and the device is {found}."
        for key, values in lists.items()
        for value in values
        if value in CUDA_ONLY and found != "cuda"
    ]


def _short_sweep(
    resolutions: list, precisions: list, executions: list, machine: dict
) -> tuple[list, list, list, list[str]]:
    """What of a whole sweep is left without CUDA, where the rest would take days, and the sentence that says so."""
    short = (
        [pixels for pixels in resolutions if pixels <= MOST_PIXELS_WITHOUT_CUDA] or resolutions[:1],
        [value for value in precisions if value == "fp32"] or precisions[:1],
        [value for value in executions if value == "eager"] or executions[:1],
    )
    if short == (resolutions, precisions, executions):
        return *short, []
    note = (
        f"Left out, because the device is {machine['device']['type']} and they would take days: resolutions above "
        f"{MOST_PIXELS_WITHOUT_CUDA} px, and precision and execution other than {short[1][0]} and {short[2][0]}; "
        "`afmp benchmark` measures them."
    )
    return *short, [note]


def check_sizes(resolutions: Sequence[int], batch_sizes: Sequence[int]) -> None:
    """AfmpError unless there are image sizes (pixels) that divide into patches, each once and each with its batch."""
    _check_list("resolutions", resolutions)
    for resolution in resolutions:
        _check_resolution(resolution)
    if len(batch_sizes) != len(resolutions):
        raise AfmpError(
            f"batch_size: {len(batch_sizes)} values found for {len(resolutions)} resolutions; "
            "one for all or one for each is needed."
        )
    for batch_size in batch_sizes:
        _check_count("batch_size", batch_size)


def check_settings(**lists: Sequence[str]) -> None:
    """AfmpError unless each list, named as in SETTINGS, has some of what is allowed there, and each only once."""
    for key, values in lists.items():
        for value in values:
            if value not in SETTINGS[key]:
                raise AfmpError(f"{key}: {value!r} found; allowed: {', '.join(SETTINGS[key])}.")
        _check_list(key, values)


def _check_list(key: str, values: Sequence) -> None:
    if not values or len(set(values)) < len(values):
        raise AfmpError(f"{key}: {list(values)} found; at least one is needed, and each only once.")


def _check_count(key: str, value: int) -> None:
    if value < 1:
        raise AfmpError(f"{key}: {value} found; at least 1 is needed.")


def _check_resolution(resolution: int) -> None:
    if resolution < PATCH_SIZE or resolution % PATCH_SIZE:
        raise AfmpError(
            f"resolutions: {resolution} px found; a multiple of the patch size, {PATCH_SIZE} px, is needed."
        )


def described(point: dict) -> str:
    """What a point measured, in a few words."""
    attention = f" {point['attention']} attention" if point["attention"] else ""
    words = " ".join(point[key] for key in ("precision", "mode", "execution"))
    return f"{point['model']} at {point['resolution']} px, {words}{attention}"


def outcome(point: dict) -> str:
    """One point in a few words."""
    if point["status"] == "ok":
        return f"{point['time_ms']['median']:.2f} ms, {point['memory']['peak_mb']:.0f} MB"
    return f"{'out of memory' if point['status'] == 'oom' else 'failed'} ({point['error']})"
