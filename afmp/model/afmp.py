"""AFMP: patches become nodes, layers of gated messages update them, and a linear readout classifies their mean.

Shapes: B images, N nodes (patches), D channels, K neighbour slots per node, E directed edges. A stack of M models that
train together (afmp/model/stack.py) has a model axis M in front.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from afmp.errors import AfmpError, check_choice, check_flag, check_number, check_whole_number
from afmp.message_passing.implementation import implementation
from afmp.message_passing.layer import LayerOutput
from afmp.model.backbone import Backbone
from afmp.model.embedding import NO_TORCHSCRIPT, patches_of
from afmp.model.graph import GraphModule
from afmp.model.layer import Budget, Layer
from afmp.model.linear import has_hooks
from afmp.model.notebook import NotebookLayer
from afmp.model.paper import PaperLayer
from afmp.model.random_edges import image_keys, next_keys
from afmp.model.refined import RefinedLayer
from afmp.model.replay import Replay
from afmp.model.scaffold import grid_positions, grid_shape
from afmp.model.top_down import is_linear_refinement, refine

# The class of each semantics, each in a file of its own.
LAYERS: dict[str, type[Layer]] = {"paper": PaperLayer, "notebook": NotebookLayer, "refined": RefinedLayer}
ROUTINGS = ("learned", "random", "none")


@dataclass(frozen=True)
class Internals:
    """The results of a forward pass. Edges are in the order of `AFMP.directed_edge_index`.

    - logits (B, num_classes); sparsity_loss, a scalar
    - per layer: scores (B, E) before any edge is pruned, gates (B, E, D), states (B, N, D)
    - refined_states (B, N, D) per layer: equal to `states` if there is no top-down pass

    Under `notebook` only the first image has edges: all other rows of scores and gates are zero.
    """

    logits: Tensor
    sparsity_loss: Tensor
    scores: list[Tensor]
    gates: list[Tensor]
    states: list[Tensor]
    refined_states: list[Tensor]


def _of_budget(name: str, doc: str) -> property:
    """Return a property that reads and writes a value of the budget, which all layers of a model share."""
    return property(
        lambda model: getattr(model.budget, name), lambda model, value: setattr(model.budget, name, value), doc=doc
    )


class AFMP(Backbone, GraphModule):
    """Adaptive message passing between the patches of an image.

    - num_layers, d_model (D), num_classes
    - img_size, patch_size: pixels; one side or (height, width), which patch_size must divide
    - sparsity: edges kept per node of the image; is_sparse=False keeps all edges, and has no regulariser
    - use_top_down: refine the states from the last layer down to the first before the readout
    - lambda_sparse: weight of the mean gate, the second result of `forward_train`
    - semantics: "paper", as the original notebook's text describes AFMP, "notebook", as its code computes it, or
      "refined", an AFMP whose messages are worth having
    - scaffold: "delaunay", or "window", which joins patches whose indices differ by at most window_size
    - batch_size: training batch size; only `notebook` uses it, for its budget
    - edges_per_node: edges kept of each node, in place of `sparsity`; only `refined` has this and what follows
    - routing: "learned", or to compare with: "random" keeps random edges, others in each image; "none" has no router
    - messages: False for the same model without messages
    - use_directions: False if an edge has only a length; use_errors: False if scores have no prediction error
    - in_chans (C): channels of an image

    Every part is a module, and hooks on it work: embed, position_embed, each of layers, each of top_down_aggregators,
    and readout["2"]. The readout may be replaced, and so may the linear maps inside a layer. A layer with a hook or a
    replaced map inside calls its inner modules one by one. Every other layer computes all of them at once. Hooks on the
    model itself run when it is called, not in `forward_train` and `forward_internals`.

    Raises AfmpError for an argument that is not allowed. The graph is saved with the weights (`static_positions`,
    `edge_index`, `edge_attr`), so a model that loads weights uses the graph that they were trained with.
    """

    def __init__(
        self,
        num_layers: int = 4,
        d_model: int = 128,
        *,
        num_classes: int = 100,
        img_size: int | tuple[int, int] = 32,
        patch_size: int = 8,
        sparsity: float = 0.3,
        is_sparse: bool = True,
        use_top_down: bool = True,
        lambda_sparse: float = 1e-4,
        semantics: str = "paper",
        scaffold: str = "delaunay",
        window_size: int = 8,
        batch_size: int = 128,
        edges_per_node: int | None = None,
        routing: str = "learned",
        messages: bool = True,
        use_directions: bool = True,
        use_errors: bool = True,
        in_chans: int = 3,
    ) -> None:
        for name, value in (
            ("num_layers", num_layers),
            ("d_model", d_model),
            ("num_classes", num_classes),
            ("batch_size", batch_size),
            ("in_chans", in_chans),
        ):
            check_whole_number(name, value)
        check_number("sparsity", sparsity)
        check_number("lambda_sparse", lambda_sparse)
        check_flag("is_sparse", is_sparse)
        check_flag("use_top_down", use_top_down)
        check_choice("semantics", semantics, tuple(LAYERS))
        check_choice("routing", routing, ROUTINGS)
        for name, value in (("messages", messages), ("use_directions", use_directions), ("use_errors", use_errors)):
            check_flag(name, value)
            if semantics != "refined" and not value:
                raise AfmpError(f"{name} is False: {semantics!r} allows True; other values need semantics='refined'")
        if edges_per_node is not None:
            check_whole_number("edges_per_node", edges_per_node)
        budget = Budget(sparsity, is_sparse, batch_size, edges_per_node, routing, messages)
        _check_budget(budget, semantics)
        layer = LAYERS[semantics]
        with torch.device("cpu"):  # the graph is built from values, and the meta device has none
            positions = grid_positions(img_size, patch_size).to(torch.get_default_dtype())
            edge_index = layer.stored_edges(positions, scaffold=scaffold, window_size=window_size)
            super().__init__(
                positions,
                edge_index,
                layer.directed_edges,
                reads_offsets=layer.reads_offsets,
                lengths_only=not use_directions,
            )
        self.to(torch.get_default_device())

        self.semantics, self.use_directions, self.use_errors = semantics, use_directions, use_errors
        self.num_classes, self.d_model, self.use_top_down, self.in_chans = num_classes, d_model, use_top_down, in_chans
        self.grid_shape, self.patch_size = grid_shape(img_size, patch_size), patch_size
        self.budget = budget
        self.num_models: int | None = None  # M in a stack of models
        self.lambda_sparse = lambda_sparse if is_sparse else 0.0

        # The original notebook's order and names, so one random seed gives the same initial weights as there.
        self.embed = layer.patch_embedding(patch_size, d_model, in_chans)
        self.position_embed = layer.position_embedding(d_model)
        predicts = [use_errors and i >= layer.first_error for i in range(num_layers)]
        self.layers = nn.ModuleList(layer(d_model, self.budget, predicts=each) for each in predicts)
        num_refined = num_layers - 1 if use_top_down else 0
        self.top_down_aggregators = nn.ModuleList(layer.top_down_step(d_model) for _ in range(num_refined))
        self.readout = nn.ModuleDict({"2": layer.readout(d_model, num_classes)})
        self._replay = Replay(self)
        self.requires_grad_()

    sparsity = _of_budget("sparsity", "Edges kept per node of the image. May be changed at any time.")
    is_sparse = _of_budget("is_sparse", "False if all edges are kept. May be changed at any time.")
    batch_size = _of_budget("batch_size", "Training batch size; `notebook` counts with it. May be changed at any time.")

    @property
    def top_k(self) -> int:
        """Number of edges kept per image (under `notebook`: scores kept in the first image of a full batch)."""
        return self.layers[0].num_kept_edges(self.graph)

    def forward(self, images: Tensor, return_sparsity_loss: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits (B, num_classes) of images (B, C, height, width). A stack has M in front of both.

        return_sparsity_loss: return what `forward_train` does. It is for a model inside a wrapper, such as
        DistributedDataParallel, which only works if it is called itself.
        """
        if return_sparsity_loss is True:  # tracers give an object that is no bool
            return self.forward_train(images)
        return self._replayed(images, with_loss=False)[0]

    def forward_train(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, num_classes), and lambda_sparse * mean gate over layers, images, edges and channels.

        A stack gives (M, B, num_classes) and (M,).
        """
        return self._replayed(images, with_loss=True)

    def compute(self, images: Tensor, *, with_loss: bool) -> tuple[Tensor, ...]:
        """Return (logits,), or with the loss what `forward_train` returns, without a CUDA graph of the model."""
        outputs = self._run_layers(images)
        logits = self._read_out(outputs)
        return (logits, self._sparsity_loss(outputs)) if with_loss else (logits,)

    def set_replay(self, enabled: bool = True) -> None:
        """Replay passes as CUDA graphs where that is possible (docs/model.md), or launch every kernel from Python.

        Frees the memory of the graphs that exist.
        """
        self._replay.set_enabled(enabled)

    @property
    def replay_bytes(self) -> int:
        """Bytes of GPU memory that the model's CUDA graphs keep between passes, besides tensors."""
        return self._replay.graphs.idle_bytes

    def _replayed(self, images: Tensor, *, with_loss: bool) -> tuple[Tensor, ...]:
        """Return what `compute` does, from a CUDA graph where that is possible."""
        results = None if torch.compiler.is_compiling() else self._replay(self, images, with_loss=with_loss)
        return self.compute(images, with_loss=with_loss) if results is None else results

    def forward_internals(self, images: Tensor) -> Internals:
        """Run one model and return its inner values, edges x channels included: for inspection, not for training."""
        outputs = self._run_layers(images)
        scores, gates = [], []
        for layer, output in zip(self.layers, outputs, strict=True):
            gated = layer.gates(output.gate_scores, self.graph) * output.keep[..., None]  # (images, N, K, D)
            silent = len(images) - len(gated)  # images that exchange nothing
            scores.append(F.pad(output.scores.flatten(-2)[..., self.edge_slots], (0, 0, 0, silent)))
            gates.append(F.pad(gated.flatten(-3, -2)[..., self.edge_slots, :], (0, 0, 0, 0, 0, silent)))
        states = [output.state for output in outputs]
        refined = refine(self.top_down_aggregators, states)
        logits = self.readout["2"](self._pool(outputs, refined))
        return Internals(logits, self._sparsity_loss(outputs), scores, gates, states, refined)

    @property
    def implementation(self) -> str:
        """Name of the implementation of message passing on this model's device: "triton" or "pytorch"."""
        return implementation(self.static_positions.device, self.static_positions.dtype)

    @property
    def is_stack(self) -> bool:
        """True if every parameter has a leading model axis, and so contains the values of several models."""
        return self.num_models is not None

    def requires_grad_(self, requires_grad: bool = True) -> "AFMP":
        """Let the parameters have gradients or not. Those that act on no result never have one.

        So optimisers leave them as they are, and DistributedDataParallel does not wait for their gradients.
        """
        super().requires_grad_(requires_grad)
        unused = [module for layer in self.layers if isinstance(layer, Layer) for module in layer.unused_maps()]
        if self.use_top_down and not self._reads_refined:
            unused.append(self.top_down_aggregators)
        for module in unused:
            module.requires_grad_(False)
        return self

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_replay": self._replay.enabled}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._replay = Replay(self, enabled=state.get("_replay", True))  # a copy captures graphs of its own

    def __prepare_scriptable__(self):
        raise AfmpError(NO_TORCHSCRIPT)

    @property
    def _reads_refined(self) -> bool:
        """True if the readout reads the states that the top-down pass refined."""
        return self.use_top_down and LAYERS[self.semantics].reads_refined_states

    def _run_layers(self, images: Tensor, *, up_to: int | None = None) -> list[LayerOutput]:
        """Return the outputs of all layers, or of the first `up_to`."""
        layers = list(self.layers)[:up_to]
        state, graph = self._embed(images), self.graph
        if self.budget.routing == "random":
            graph = graph._replace(keys=image_keys(images))
        # The weights of all layers are packed at once. A layer with hooks packs its own when it is called: a hook may
        # change them before.
        known = [number for number, layer in enumerate(layers) if self._is_own(layer)]
        packed: list = [None] * len(layers)
        if known:
            own = [layers[number] for number in known]
            for number, weights in zip(known, own[0].prepare(own, state, graph), strict=True):
                packed[number] = weights
        outputs = []
        for layer, weights in zip(layers, packed, strict=True):
            inputs = (state, graph, weights)
            if self.grad_checkpointing:
                outputs.append(checkpoint(layer, *inputs, use_reentrant=False))
            else:
                outputs.append(layer(*inputs))
            state = outputs[-1].state
            if graph.keys is not None:
                graph = graph._replace(keys=next_keys(graph.keys))
        return outputs

    def _is_own(self, layer: nn.Module) -> bool:
        """Return True if a layer is of the class that this model was built with, and has no hooks of its own."""
        return type(layer) is LAYERS[self.semantics] and not has_hooks(layer)

    def _embed(self, images: Tensor) -> Tensor:
        """Return nodes (B, N, D): each patch's pixels, ordered (channel, row, column), and its position."""
        models = (self.num_models,) if self.is_stack else ()
        patches = patches_of(images, self.grid_shape, self.patch_size, in_chans=self.in_chans, models=models)
        positions = self.static_positions.expand(*models, 1, -1, -1) if self.is_stack else self.static_positions
        return self.embed(patches) + self.position_embed(positions)

    def _read_out(self, outputs: list[LayerOutput]) -> Tensor:
        """Return logits (B, num_classes) from the outputs of all layers."""
        if not self.global_pool:
            return self.readout["2"](self._features(outputs))
        return self.readout["2"](self._pool(outputs))

    def _pool(self, outputs: list[LayerOutput], refined: list[Tensor] | None = None) -> Tensor:
        """Return the input of the readout, (B, D): the mean over nodes of r_0, or of the last layer's states.

        The semantics and `use_top_down` decide which of the two. refined: the refined states, if they are known.
        """
        # A hook may have replaced a layer's states, so their mean is computed again.
        means = [
            output.mean if self._is_own(layer) else output.state.mean(dim=-2)
            for layer, output in zip(self.layers, outputs, strict=True)
        ]
        aggregators = self.top_down_aggregators
        if not all(map(is_linear_refinement, aggregators)):  # a hook or another step must get the full states
            refined = refined or refine(aggregators, [output.state for output in outputs])
            return refined[0].mean(dim=-2) if self._reads_refined else means[-1]
        if not self._reads_refined:
            return means[-1]
        # Refinement is linear and every P_l is the identity, so refining the means gives the mean of r_0. This works on
        # (B, D) and not on (B, N, D).
        return refine(aggregators, [mean.unsqueeze(-2) for mean in means])[0].squeeze(-2)

    def _sparsity_loss(self, outputs: list[LayerOutput]) -> Tensor:
        gates_per_image = len(outputs) * self.num_directed_edges * self.d_model
        if self.lambda_sparse == 0 or gates_per_image == 0:
            return outputs[-1].gate_sum.new_zeros(outputs[-1].gate_sum.shape[:-1])
        # No gate is negative, so their sum is the sum of |g|.
        return self.lambda_sparse * sum(output.gate_sum.mean(dim=-1) for output in outputs) / gates_per_image


def _check_budget(budget: Budget, semantics: str) -> None:
    if semantics != "refined" and (budget.edges_per_node, budget.routing, budget.messages) != (None, "learned", True):
        raise AfmpError(
            f"edges_per_node is {budget.edges_per_node}, routing {budget.routing!r} and messages {budget.messages}: "
            f"{semantics!r} allows None, 'learned' and True; other values need semantics='refined'"
        )
    if budget.routing == "none" and budget.is_sparse:
        raise AfmpError("routing is 'none', and is_sparse True: without scores no edge is best; set is_sparse=False")
