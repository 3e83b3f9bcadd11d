"""AFMP as a backbone: features, states of layers, and a classifier to replace, under the names of timm."""

from collections.abc import Sequence

from torch import Tensor, nn

from afmp.errors import AfmpError, check_choice, check_whole_number
from afmp.message_passing.layer import LayerOutput
from afmp.model.linear import Linear
from afmp.model.refined import RefinedReadout
from afmp.model.top_down import refine

POOLS = ("avg", "")  # the mean over nodes, or none
FORMATS = ("NCHW", "NLC")


class Backbone:
    """The part of AFMP's interface that is as in timm, with B images, N nodes and D channels.

    global_pool: "avg", or "" for an output of each node, (B, N, num_classes).
    """

    global_pool = "avg"
    grad_checkpointing = False

    @property
    def num_features(self) -> int:
        """D, channels of the features."""
        return self.d_model

    @property
    def head_hidden_size(self) -> int:
        """D, channels of the input of the classifier."""
        return self.d_model

    @property
    def feature_info(self) -> list[dict]:
        """The channels, the reduction (pixels per node and side) and the module of each layer's states."""
        info = {"num_chs": self.d_model, "reduction": self.patch_size}
        return [{**info, "module": f"layers.{number}"} for number in range(len(self.layers))]

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the features (B, N, D) of images (B, C, height, width): the states whose mean is classified."""
        return self._features(self._run_layers(images))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (B, num_classes) of features (B, N, D); with pre_logits the classifier's input (B, D)."""
        readout = self.readout["2"]
        pooled = features.mean(dim=-2) if self.global_pool else features
        if not pre_logits:
            return readout(pooled)
        return readout.norm(pooled) if isinstance(readout, RefinedReadout) else pooled

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        output_dict: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]] | dict[str, Tensor | list[Tensor]]:
        """Return the features (B, N, D) of images x (B, C, height, width), and the states of layers.

        - indices: the last n layers, or those with these numbers, negative from the end; None for all
        - norm: no effect, because AFMP normalises no states
        - stop_early: compute no layer above the last one that is wanted; the features are then those of this layer
        - output_fmt: "NCHW" for states (B, D, rows, columns), "NLC" for (B, N, D)
        - intermediates_only: return only the list of states
        - output_dict: return {"image_intermediates": states, "image_features": features}

        The states are those before the top-down pass. Raises AfmpError for a layer or format that does not exist.
        """
        check_choice("output_fmt", str(getattr(output_fmt, "value", output_fmt)), FORMATS)
        wanted = self._layer_numbers(indices)
        outputs = self._run_layers(x, up_to=max(wanted) + 1 if stop_early else None)
        states = [outputs[number].state for number in wanted]
        if output_fmt == "NCHW":
            states = [state.mT.unflatten(-1, self.grid_shape).contiguous() for state in states]
        if intermediates_only:
            return {"image_intermediates": states} if output_dict else states
        features = self._features(outputs)
        return {"image_intermediates": states, "image_features": features} if output_dict else (features, states)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove all that the states of some layers do not need; return the numbers of these layers.

        indices: as in `forward_intermediates`. prune_head: remove the classifier too.
        """
        wanted = self._layer_numbers(indices)
        self.layers = self.layers[: max(wanted) + 1]
        self.top_down_aggregators, self.use_top_down = nn.ModuleList(), False
        if prune_head:
            self.readout["2"] = nn.Identity()
            self.num_classes, self.global_pool = 0, ""
        return wanted

    def get_classifier(self) -> nn.Module:
        """Return the linear map to logits. Under `refined` a normalisation precedes it."""
        readout = self.readout["2"]
        return readout.map if isinstance(readout, RefinedReadout) else readout

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one with other classes; 0 for none, so that the model returns its input.

        What `afmp.load` said about the weights no longer applies, and is removed. Raises AfmpError for a stack of
        models, for a number below 0, and for a pooling other than "avg" and "".
        """
        check_whole_number("num_classes", num_classes, minimum=0)
        if self.is_stack:
            raise AfmpError("reset_classifier of a stack of models: give each model its classifier, then stack them")
        if global_pool is not None:
            check_choice("global_pool", global_pool, POOLS)
            self.global_pool = global_pool
        weight = self.static_positions  # has the model's device and type
        classifier = Linear(self.d_model, num_classes) if num_classes else nn.Identity()
        classifier.to(weight.device, weight.dtype).train(self.training)
        if isinstance(self.readout["2"], RefinedReadout):
            self.readout["2"].map = classifier
        else:
            self.readout["2"] = classifier
        self.num_classes = num_classes
        self.__dict__.pop("about", None)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute each layer again in the backward pass, so that its inner tensors are not kept."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that are no vectors and yet not decayed: none."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return the patterns by which timm groups parameters, for learning rates that fall with depth.

        The top-down pass is in the group of the last layer, and the readout in one of its own, as the head in timm.
        """
        with_last_layer = (99999,)  # timm's number for it
        blocks = [(r"^layers\.(\d+)", None), (r"^top_down_aggregators", with_last_layer)]
        return {"stem": r"^(?:position_)?embed", "blocks": blocks}

    def _features(self, outputs: list[LayerOutput]) -> Tensor:
        states = [output.state for output in outputs]
        reads_refined = self._reads_refined and len(states) == len(self.layers)
        return refine(self.top_down_aggregators, states)[0] if reads_refined else states[-1]

    def _layer_numbers(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.layers)
        known = range(-count, count)
        if indices is None or isinstance(indices, int):
            last = count if indices is None else indices
            numbers = list(range(count - last, count)) if 0 < last <= count else []
        else:
            numbers = [number % count for number in indices if number in known]
            numbers = numbers if len(numbers) == len(indices) else []
        if not numbers:
            raise AfmpError(
                f"indices is {indices!r}: allowed are 1 to {count} for the last layers, or a list of numbers between "
                f"{-count} and {count - 1}; the model has {count} layers"
            )
        return numbers
