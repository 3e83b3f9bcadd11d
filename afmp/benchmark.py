"""AFMP-Small against DeiT-Tiny: the scalability sweep over resolutions, and the parameter counts.

Every point is measured by afmp.measurement in a process of its own; what goes wrong there is recorded in the
point, and the sweep goes on. This file needs no torch until parameters are counted.
"""

from collections.abc import Callable, Sequence

from afmp.errors import AfmpError
from afmp.isolation import IsolatedCallError, run_isolated
from afmp.records import validate

# Names of functions and not the functions: the process that measures a point imports its own.
MODEL_BUILDERS = {
    "afmp_small": "afmp.measurement:build_afmp_small",
    "deit_tiny": "afmp.measurement:build_deit_tiny",
}
MODELS_WITH_ATTENTION = ("deit_tiny",)
PATCH_SIZE = 16  # of both models
SEMANTICS = ("paper", "notebook")
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
# No mode that replays CUDA graphs: under a graph the allocator's figures do not say what a pass needs.
COMPILE_MODES = ("none", "default", "max-autotune-no-cudagraphs")


def benchmark_scalability(
    *,
    semantics: str,
    resolutions: Sequence[int],
    batch_size: int,
    num_classes: int = 100,
    precision: str = "fp32",
    fused_attention: bool = True,
    compile_mode: str = "none",
    device: str = "auto",
    warmup: int = 5,
    repeats: int = 10,
    models: Sequence[str] = ("afmp_small", "deit_tiny"),
    progress: Callable[[str], None] = print,
) -> dict:
    """Time and peak memory of forward + backward of each model at each resolution (pixels, square images).

    At each resolution the models follow one another, so that a drift of the machine meets them alike.
    `precision`: fp32 is without TF32, bf16 and fp16 are autocast. `fused_attention` is timm's switch between
    PyTorch's fused attention and plain products of matrices. `progress` gets a line of text for every
    finished point.

    Returns the content of a scalability file (schemas/scalability.schema.yaml), validated. A point that ran
    out of memory has status "oom", one that failed otherwise "error". Raises AfmpError for an argument that
    no point could be measured with.
    """
    _check(
        semantics=semantics,
        resolutions=resolutions,
        precision=precision,
        compile_mode=compile_mode,
        models=models,
        counts={"batch_size": batch_size, "num_classes": num_classes, "warmup": warmup, "repeats": repeats},
    )
    try:
        machine = run_isolated("afmp.measurement:describe_device", {"device": device})
    except IsolatedCallError as error:
        raise AfmpError(str(error).removeprefix("AfmpError: ")) from None
    if precision == "tf32" and machine["device"]["type"] != "cuda":
        found = machine["device"]["type"]
        raise AfmpError(f"precision: 'tf32' exists on CUDA devices only, and the device is {found}; use fp32.")
    total = len(resolutions) * len(models)
    points = []
    for resolution in resolutions:
        for model in models:
            point = {
                "model": model,
                "resolution": resolution,
                "num_patches": (resolution // PATCH_SIZE) ** 2,
                "batch_size": batch_size,
                "precision": precision,
                "attention": _attention(model, fused_attention),
                "compile": compile_mode,
                "status": "ok",
                "error": None,
                "num_parameters": None,
                "time_ms": None,
                "memory": None,
            }
            try:
                point |= run_isolated(
                    "afmp.measurement:measure",
                    {
                        "builder": MODEL_BUILDERS[model],
                        "resolution": resolution,
                        "batch_size": batch_size,
                        "num_classes": num_classes,
                        "semantics": semantics,
                        "precision": precision,
                        "fused_attention": fused_attention,
                        "compile_mode": compile_mode,
                        "device": machine["torch_device"],
                        "warmup": warmup,
                        "repeats": repeats,
                    },
                )
            except IsolatedCallError as error:
                point |= {"status": "oom" if error.out_of_memory else "error", "error": str(error)}
            points.append(point)
            progress(f"[{len(points)}/{total}] {model} at {resolution} px: {outcome(point)}")
    scalability = {
        "format_version": 1,
        "semantics": semantics,
        "device": machine["device"],
        "versions": machine["versions"],
        "protocol": {
            "mode": "train",
            "warmup": warmup,
            "repeats": repeats,
            "num_classes": num_classes,
            "cpu_threads": machine["cpu_threads"],
        },
        "points": points,
    }
    validate(scalability, "scalability", where="scalability sweep")
    return scalability


def count_parameters(num_classes: int = 100, resolution: int = 224) -> dict:
    """Trainable parameters of the models that are compared, as the content of a parameters file, validated.

    `resolution` (pixels) is that of AFMP-Small and DeiT-Tiny; AFMP-Small's count does not depend on it,
    DeiT-Tiny's does through its position embedding. The model of the accuracy studies always reads 32 px
    images.
    """
    from afmp.measurement import build_afmp_small, build_deit_tiny
    from afmp.model import afmp_tiny

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


def _check(*, semantics, resolutions, precision, compile_mode, models, counts) -> None:
    for key, value, allowed in (
        ("semantics", semantics, SEMANTICS),
        ("precision", precision, PRECISIONS),
        ("compile_mode", compile_mode, COMPILE_MODES),
        *(("models", model, tuple(MODEL_BUILDERS)) for model in models),
    ):
        if value not in allowed:
            raise AfmpError(f"{key}: {value!r} found; allowed: {', '.join(allowed)}.")
    for key, values in (("models", models), ("resolutions", resolutions)):
        if not values or len(set(values)) < len(values):
            raise AfmpError(f"{key}: {list(values)} found; at least one is needed, and each only once.")
    for resolution in resolutions:
        _check_resolution(resolution)
    for key, value in counts.items():
        if value < 1:
            raise AfmpError(f"{key}: {value} found; at least 1 is needed.")


def _check_resolution(resolution: int) -> None:
    if resolution < PATCH_SIZE or resolution % PATCH_SIZE:
        raise AfmpError(
            f"resolutions: {resolution} px found; a multiple of the patch size, {PATCH_SIZE} px, is needed."
        )


def _attention(model: str, fused_attention: bool) -> str | None:
    if model not in MODELS_WITH_ATTENTION:
        return None
    return "fused" if fused_attention else "plain"


def outcome(point: dict) -> str:
    """One point in a few words."""
    if point["status"] == "ok":
        return f"{point['time_ms']['median']:.2f} ms, {point['memory']['peak_mb']:.0f} MB"
    return f"{'out of memory' if point['status'] == 'oom' else 'failed'} ({point['error']})"
