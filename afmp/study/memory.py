"""The memory that a training takes, before it takes it: the parts that can be counted from the configuration."""

from afmp.errors import AfmpError
from afmp.study.run_config import RunConfig

# No training of a study needs as much, and hardly a machine has it. Less is compared with the machine when it is known.
MOST_BYTES = 1_000e9
SIZES = "training/batch_size, model/d_model, model/num_layers or dataset/image_size"
RIVAL_SIZES = "training/batch_size, dataset/image_size or the sizes in model/arguments"


def num_parameters(run: RunConfig) -> int:
    """Return about how many parameters a model of this run has: its matrices, without biases and the readout.

    0 for a rival: only timm knows its matrices.
    """
    model, d = run.model, run.model.d_model
    if model.is_rival:
        return 0
    # W_pred, W_self and W_msg; W_q, W_k and the router's hidden layer, which are 64 wide; W_t of each refined layer.
    layers = model.num_layers * (3 * d * d + 256 * d)
    refinement = (model.num_layers - 1) * d * d if model.use_top_down else 0
    return layers + refinement + 3 * model.patch_size**2 * d


def training_bytes(run: RunConfig, *, seeds: int, together: int, images: int, parameters: int | None = None) -> float:
    """Return the bytes that training takes at least. `together` of the `seeds` train as one stack.

    Each seed has its weights, and their average if the recipe has one. Each that trains has a gradient and two moments
    of AdamW. Added are the states of one batch from `images` images, which wait for the backward pass, and the tables
    of the graph. parameters: of a rival.
    """
    number = num_parameters(run) if parameters is None else parameters
    weights = 4 * number * (seeds * (2 if run.training.ema_decay else 1) + 3 * together)
    model = run.model
    if model.is_rival:  # the images of one batch
        states = min(run.training.batch_size, images) * 3 * run.dataset.image_size**2 * 4
        return weights + states * together
    patches = (run.dataset.image_size // model.patch_size) ** 2
    states = min(run.training.batch_size, images) * patches * model.d_model * 4 * (model.num_layers + 1)
    edges = patches * (2 * model.window_size if model.scaffold == "window" else 6)
    return weights + states * together + 50 * edges


def check_memory(
    name: str, run: RunConfig, needed: float, *, available: float, where: str, parameters: int | None = None
) -> None:
    """Raise AfmpError if training the run `name` takes more bytes than are `available` in what `where` names.

    parameters: of a rival.
    """
    if needed > available:
        sizes = RIVAL_SIZES if run.model.is_rival else SIZES
        raise AfmpError(
            f"config: run {name!r}: training {in_words(run, needed, parameters)}, and {where} "
            f"{available / 1e9:,.0f} GB; lower {sizes}."
        )


def in_words(run: RunConfig, needed: float, parameters: int | None = None) -> str:
    """Return what a training takes: `takes at least 208.3 GB of memory (13,018 million parameters per seed)`."""
    millions = (num_parameters(run) if parameters is None else parameters) / 1e6
    return f"takes at least {needed / 1e9:,.2f} GB of memory ({millions:,.1f} million parameters per seed)"


def check_study_memory(runs: dict[str, RunConfig], seeds: list[int]) -> None:
    """Check that one image of each run fits any machine: the dataset's size is not known before it is read.

    A rival is checked when PyTorch is loaded, by `check_rival` in afmp/model/rival.py.
    """
    for name, run in ((name, run) for name, run in runs.items() if not run.model.is_rival):
        needed = training_bytes(run, seeds=len(seeds), together=1, images=1)
        check_memory(name, run, needed, available=MOST_BYTES, where="a study may take")
