"""Rivals: models of timm, trained and evaluated as AFMP is, to compare with.

B images of H x W pixels. A rival is always a stack of one model, so all its tensors have an axis of length 1 in front.
"""

import difflib
from functools import cache

import torch
from torch import Tensor, nn

from afmp.errors import AfmpError, one_line
from afmp.study.memory import MOST_BYTES, training_bytes
from afmp.study.run_config import TIMM, RunConfig
from afmp.study.semantics import RIVAL


class Rival(nn.Module):
    """A model of timm with the interface that training has of AFMP. It has no graph, no gates and no regulariser.

    `network` is the model of timm, whose parameters have no model axis. `forward_train` runs it in training mode (so
    BatchNorm updates its statistics, and dropout drops), `forward` in evaluation mode.
    """

    semantics = RIVAL
    num_models = 1
    implementation = "pytorch"  # of message passing, of which there is none

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        # The scaffold of a model without patches and edges.
        self.static_positions = torch.empty(0, 2)
        self.edge_index = self.directed_edge_index = torch.empty(2, 0, dtype=torch.int64)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (1, B, num_classes) of images (1, B, 3, H, W)."""
        return self._logits(images, training=False)

    def forward_train(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (1, B, num_classes) of images (1, B, 3, H, W), and a regulariser (1,) of 0."""
        return self._logits(images, training=True), images.new_zeros(1)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that timm trains without weight decay, such as position embeddings."""
        named = self.network.no_weight_decay() if hasattr(self.network, "no_weight_decay") else ()
        return {f"network.{name}" for name in named}

    def _logits(self, images: Tensor, *, training: bool) -> Tensor:
        if self.network.training != training:
            self.network.train(training)
        try:
            return self.network(images[0])[None]
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise AfmpError(
                f"a batch of {images.shape[1]} image, of which BatchNorm has no statistics; change training/batch_size "
                "so that the last batch of an epoch is larger."
            ) from None


def build_rival(config: RunConfig, *, num_classes: int) -> Rival:
    """Build the model of a rival's run, with initial weights from torch's global random state.

    Raises AfmpError for a name that timm does not have, and for arguments that it refuses.
    """
    import timm  # only here: it loads slowly, and a study without rivals does not need it

    model, side = config.model, config.dataset.image_size
    name = model.architecture.removeprefix(TIMM)
    build = _builder(name, timm)
    sizes = {"img_size": side, "patch_size": model.patch_size}
    while True:
        try:
            return Rival(build(num_classes=num_classes, **sizes, **dict(model.arguments)))
        except Exception as error:
            # A convolutional network reads images of any size, and has no patches.
            unknown = [key for key in sizes if "unexpected keyword" in str(error) and f"'{key}'" in str(error)]
            if not unknown:
                raise _refused(config, error) from error
            del sizes[unknown[0]]


def check_rival(config: RunConfig) -> int:
    """Return the number of parameters of a rival with 10 classes; it takes no memory and no time.

    Raises AfmpError, as `build_rival` does, unless the rival answers images of the study and some machine can train it.
    """
    architecture, side = config.model.architecture, config.dataset.image_size
    try:
        with torch.device("meta"), torch.no_grad():
            rival = build_rival(config, num_classes=10)
            logits, _ = rival.forward_train(torch.empty(1, 2, 3, side, side))
    except AfmpError:
        raise
    except Exception as error:
        raise _refused(config, error) from error
    if logits.shape != (1, 2, 10):
        raise AfmpError(
            f"config: architecture {architecture!r}: gives {tuple(logits.shape[1:])} for 2 images and 10 classes; "
            "allowed is a model that classifies, with a shape of (2, 10)."
        )
    number = sum(parameter.numel() for parameter in rival.parameters())
    needed = training_bytes(config, seeds=1, together=1, images=1, parameters=number)
    if needed > MOST_BYTES:
        raise AfmpError(
            f"config: architecture {architecture!r}: its {number / 1e6:,.0f} million parameters take at least "
            f"{needed / 1e9:,.0f} GB of memory, and a study may take {MOST_BYTES / 1e9:,.0f} GB; make it smaller by "
            "`arguments`."
        )
    return number


@cache
def draws_random_numbers(config: RunConfig) -> bool:
    """Return True if the training step of a rival draws random numbers, as dropout does. Raises as `check_rival`."""
    check_rival(config)
    model, side = build_rival(config, num_classes=2), config.dataset.image_size
    before = torch.get_rng_state()
    with torch.no_grad():
        model.forward_train(torch.zeros(1, 2, 3, side, side))
    return not torch.equal(torch.get_rng_state(), before)


def _builder(name: str, timm):
    """Return the function or class that builds the model of this name."""
    if timm.is_model(name):
        return lambda **arguments: timm.create_model(name, pretrained=False, **arguments)
    found = getattr(timm.models, name, None)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    classes = [key for key in vars(timm.models) if key[0].isupper()]
    close = difflib.get_close_matches(name, [*timm.list_models(), *classes], n=3)
    similar = f"; similar are {', '.join(close)}" if close else ""
    raise AfmpError(
        f"config: architecture '{TIMM}{name}': timm {timm.__version__} has no model and no class of this name"
        f"{similar}; allowed: the names of timm.list_models(), and the classes in timm.models."
    )


def _refused(config: RunConfig, error: Exception) -> AfmpError:
    model = config.model
    return AfmpError(
        f"config: architecture {model.architecture!r}: timm refuses arguments {dict(model.arguments)} with patch_size "
        f"{model.patch_size} and image_size {config.dataset.image_size} ({one_line(error)}); change them, or give the "
        "name of a class in timm.models, which takes each of its arguments (timm/MlpMixer, timm/ConvMixer)."
    )
