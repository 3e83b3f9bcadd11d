"""Every part of the model is a module that is called: hooks fire, parts can be replaced, and no result changes."""

import copy

import pytest
import torch
from torch import nn
from triton_interpreter import skip_repeated_work

from afmp import AFMP
from afmp.errors import AfmpError
from afmp.message_passing import implementation
from afmp.model.afmp import LAYERS
from afmp.model.refined import RefinedLayer
from afmp.model.stack import stack_models
from afmp.study.semantics import AFMP_SEMANTICS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = {
    "few kept edges": {},
    "many kept edges": {"sparsity": 1.5},
    "dense": {"is_sparse": False},
    "without top-down": {"use_top_down": False},
    "notebook": {"semantics": "notebook"},
    "notebook with a budget": {"semantics": "notebook", "batch_size": 2, "sparsity": 0.4},
}
REFINED_KINDS = {
    "k per image": {},
    "all edges": {"is_sparse": False},
    "k per node": {"edges_per_node": 2},
    "random edges": {"edges_per_node": 2, "routing": "random"},
    "no router": {"routing": "none", "is_sparse": False},
    "no messages": {"messages": False},
    "no directions": {"use_directions": False},
    "no errors": {"use_errors": False, "is_sparse": False},
    "window": {"scaffold": "window", "window_size": 5, "sparsity": 2.5},
}
INNER = (
    "router",
    "pcu",
    "router.W_q",
    "router.W_k",
    "router.v",
    "router.v.0",
    "router.W_gate",
    "pcu.W_self",
    "pcu.W_msg",
)
CALLED_ON_ALL_PATHS = ("norm", "router.W_in", "pcu", "pcu.W_1", "pcu.W_2")
REFINED_INNER = (
    "norm",
    "router",
    "router.W_in",
    "router.W_f",
    "router.w",
    "router.W_gate",
    "directions",
    "directions.hidden",
    "directions.out",
    "pcu",
    "pcu.W_1",
    "pcu.W_2",
)


def build(models=None, dtype=torch.float64, **kind):
    """A model, or a stack of models, and images for it."""
    torch.manual_seed(0)
    kind = {"sparsity": 0.4, "lambda_sparse": 0.5} | kind
    parts = [AFMP(3, 12, img_size=(12, 16), patch_size=4, num_classes=5, **kind) for _ in range(models or 1)]
    model = (parts[0] if models is None else stack_models(parts)).to(DEVICE, dtype)
    shape = (4, 3, 12, 16) if models is None else (models, 4, 3, 12, 16)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(DEVICE, dtype)
    return model, images


# The modules whose hooks do not fire, as docs/model.md says.
CONTAINERS = {"layers", "top_down_aggregators", "readout"}  # they only hold modules
WITHOUT_PREDICTION = {"layers.0.router.W_pred"}  # the first layer has none
WITHOUT_ROUTER = {
    f"layers.{layer}.{name}" for layer in range(3) for name in ("router", "router.W_in", "router.W_f", "router.w")
}
# The refinement changes no output under `notebook`, so it gets no gradient.
WITHOUT_GRADIENT = {f"top_down_aggregators.{step}{name}" for step in range(2) for name in ("", ".W_t")}


def silent_modules(model) -> tuple[set[str], set[str]]:
    """Names of the modules whose forward hooks do not fire, and of those whose backward hooks do not."""
    unused = WITHOUT_PREDICTION if model.semantics != "refined" else set()
    if model.budget.routing == "none":
        unused = WITHOUT_ROUTER
    forward = CONTAINERS | unused
    return forward, forward | (WITHOUT_GRADIENT if model.semantics == "notebook" else set())


def passed(model, images) -> list[torch.Tensor]:
    """Logits, sparsity loss, and the gradient of each parameter."""
    logits, sparsity_loss = model.forward_train(images)
    target = logits.square().sum() + 1e3 * sparsity_loss.sum()
    gradients = torch.autograd.grad(target, [p for p in model.parameters() if p.requires_grad])
    return [logits, sparsity_loss, *gradients]


@pytest.mark.parametrize("models", [None, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_layer_equals_the_fast_path(kind, models):
    model, images = build(models, **KINDS[kind])
    expected = passed(model, images)
    for name in ("router.W_q", "pcu"):  # a hook that does nothing: the layer calls its inner modules
        handles = [layer.get_submodule(name).register_forward_hook(lambda *_: None) for layer in model.layers]
        for ours, theirs in zip(passed(model, images), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("models", [None, 1, 2])
@pytest.mark.parametrize("kind", REFINED_KINDS)
def test_the_plain_layer_of_refined_equals_the_fast_path(kind, models):
    model, images = build(models, semantics="refined", **REFINED_KINDS[kind])
    expected = passed(model, images)
    for name in ("router", "router.w"):
        handles = [layer.get_submodule(name).register_forward_hook(lambda *_: None) for layer in model.layers]
        for ours, theirs in zip(passed(model, images), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", REFINED_INNER)
def test_a_layer_of_refined_calls_all_modules_whose_weights_it_does_not_read(name, monkeypatch):
    model, images = build(semantics="refined")
    fast, fired = [], []
    forward = RefinedLayer._fast_forward
    monkeypatch.setattr(RefinedLayer, "_fast_forward", lambda layer, *a: (fast.append(layer), forward(layer, *a))[1])
    model.layers[1].get_submodule(name).register_forward_hook(lambda *_: fired.append(name))
    model(images)
    assert fired == [name]
    if DEVICE == "cpu":  # on a GPU, no layer in float64 takes a fast path
        is_read = name not in CALLED_ON_ALL_PATHS
        assert [layer in fast for layer in model.layers] == [True, not is_read, True]


@pytest.mark.parametrize("models", [None, 2])
@pytest.mark.parametrize("kind", [*KINDS, *REFINED_KINDS])
def test_hooks_fire_on_every_module_but_the_documented_ones(kind, models):
    model, images = build(models, **KINDS.get(kind) or {"semantics": "refined"} | REFINED_KINDS.get(kind, {}))
    names = {name for name, _ in model.named_modules()}
    forward, backward = [], []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: forward.append(name))
        module.register_full_backward_hook(lambda *_, name=name: backward.append(name))
    logits, sparsity_loss = model(images, return_sparsity_loss=True)
    (logits.square().sum() + sparsity_loss.sum()).backward()
    silent_forward, silent_backward = silent_modules(model)
    assert sorted(forward) == sorted(names - silent_forward)
    assert set(backward) == names - silent_backward


@pytest.mark.parametrize(
    ("semantics", "name"),
    [
        (semantics, name)
        for semantics in AFMP_SEMANTICS
        for name in (REFINED_INNER if semantics == "refined" else INNER)
    ],
)
def test_a_hook_that_changes_an_inner_module_changes_the_result(semantics, name):
    model, images = build(semantics=semantics)
    before = model(images)

    def halve(module, inputs, output):
        return tuple(part * 0.5 for part in output) if isinstance(output, tuple) else output * 0.5

    model.layers[1].get_submodule(name).register_forward_hook(halve)
    assert not torch.allclose(model(images)[0], before[0])


@pytest.mark.parametrize("name", ["embed", "position_embed", "layers.1", "top_down_aggregators.0", "readout.2"])
def test_a_hook_that_changes_a_part_changes_the_result(name):
    model, images = build()
    before = model(images)

    def halve(module, inputs, output):
        return output * 0.5 if isinstance(output, torch.Tensor) else output._replace(state=output.state * 0.5)

    model.get_submodule(name).register_forward_hook(halve)
    assert not torch.allclose(model(images), before)


def test_a_hook_on_the_last_layer_changes_what_is_read_out():
    model, images = build(use_top_down=False)
    model.layers[-1].register_forward_hook(lambda module, inputs, output: output._replace(state=output.state * 0))
    assert torch.equal(model(images), model.readout["2"].bias.expand(4, 5))


@pytest.mark.parametrize("kind", ["few kept edges", "notebook"])
def test_only_a_hooked_layer_leaves_the_fast_path(kind, monkeypatch):
    model, images = build(**KINDS[kind])
    taken = []
    path_of = implementation.path_of
    monkeypatch.setattr(
        "afmp.message_passing.layer.path_of", lambda *a, **k: (taken.append(path_of(*a, **k)), taken[-1])[1]
    )
    handle = model.layers[1].router.v[0].register_forward_hook(lambda *_: None)
    model(images)
    assert [path == implementation.PLAIN for path in taken[:3]] == [False, True, False]
    handle.remove()
    taken.clear()
    model(images)
    assert implementation.PLAIN not in taken


def test_a_hook_for_all_modules_selects_the_plain_path():
    model, images = build()
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    try:
        model(images)
    finally:
        handle.remove()
    assert model.layers[1].router.W_k in seen


def test_a_hook_that_changes_the_weights_of_a_layer_acts_in_the_same_pass():
    model, images = build()
    before = model(images)

    def silence(module, inputs):
        module.pcu.W_msg.weight.data.zero_()
        module.pcu.W_msg.bias.data.zero_()

    model.layers[1].register_forward_pre_hook(silence)
    first, second = model(images), model(images)
    assert torch.equal(first, second) and not torch.allclose(first, before)


def test_internals_are_those_of_a_hooked_or_replaced_gate():
    model, images = build()
    model.layers[1].router.W_gate.register_forward_hook(lambda module, inputs, output: output - 50.0)
    assert model.forward_internals(images).gates[1].max() < 1e-9 < model.forward_internals(images).gates[0].max()
    model.layers[2].router.W_gate = nn.Sequential(model.layers[2].router.W_gate)
    torch.testing.assert_close(model.forward_internals(images).logits, model(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "name"), [({}, "W_q"), ({"semantics": "refined", "is_sparse": False}, "w")], ids=["paper", "refined"]
)
def test_a_hook_changes_a_half_precision_pass_by_rounding_only(kind, name, dtype):
    model, images = build(dtype=torch.float32, **kind)
    with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
        fast = model.forward_internals(images)
        getattr(model.layers[1].router, name).register_forward_hook(lambda *_: None)
        plain = model.forward_internals(images)
    assert plain.scores[1].dtype == fast.scores[1].dtype == torch.float32
    assert plain.sparsity_loss.dtype == fast.sparsity_loss.dtype
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(plain.scores[1], fast.scores[1], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(plain.logits, fast.logits, rtol=tolerance, atol=tolerance)


def test_a_changed_budget_acts_on_every_layer():
    model, images = build()
    model.sparsity = 0.9
    assert model.top_k == 10
    for gates in model.forward_internals(images).gates:
        assert (gates != 0).any(dim=2).sum(dim=1).tolist() == [10] * 4
    model.is_sparse = False
    assert model.top_k == model.num_directed_edges


REPLACEMENTS = {
    "a map without bias": lambda model: setattr(model.layers[1].pcu, "W_msg", nn.Linear(12, 12, bias=False)),
    "a wrapped router": lambda model: setattr(model.layers[1], "router", Wrapper(model.layers[1].router)),
    "another v": lambda model: setattr(model.layers[1].router, "v", nn.Linear(26, 1)),
    "a narrower router": lambda model: narrow(model.layers[1].router),
    "a wrapped layer": lambda model: model.layers.__setitem__(1, Wrapper(model.layers[1])),
    "a wrapped embedding": lambda model: setattr(model, "embed", nn.Sequential(model.embed)),
}


class Wrapper(nn.Module):
    """A module that calls another, as checkpointing and distributed training do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *arguments):
        return self.inner(*arguments)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


def narrow(router: nn.Module) -> None:
    router.W_q, router.W_k = nn.Linear(12, 5), nn.Linear(12, 5)
    router.U = nn.Parameter(torch.randn(5, 5))


@pytest.mark.parametrize("semantics", AFMP_SEMANTICS)
@pytest.mark.parametrize("name", REPLACEMENTS)
def test_modules_of_other_classes_and_shapes_are_called(name, semantics):
    model, images = build(semantics=semantics, dtype=torch.float32)
    before = model(images)
    REPLACEMENTS[name](model)
    model.to(DEVICE)
    logits, sparsity_loss = model.forward_train(images)
    (logits.sum() + sparsity_loss).backward()
    assert logits.isfinite().all() and model.implementation in ("pytorch", "triton")
    if "wrapped" in name:
        torch.testing.assert_close(logits, before)


def test_models_that_a_stack_cannot_represent_are_refused():
    hooked = [AFMP(1, 8, img_size=16) for _ in range(2)]
    hooked[1].layers[0].register_forward_hook(lambda *_: None)
    with pytest.raises(AfmpError, match="has hooks"):
        stack_models(hooked)
    replaced = [AFMP(1, 8, img_size=16) for _ in range(2)]
    for model in replaced:
        model.readout["2"] = nn.Sequential(nn.Dropout(), nn.Linear(8, 3))
    with pytest.raises(AfmpError, match=r"readout\.2\.1 is Linear"):
        stack_models(replaced)


def test_the_plain_layer_equals_the_triton_kernels(monkeypatch):
    """In float32: on a GPU the kernels themselves, else Triton's interpreter."""
    pytest.importorskip("triton")
    skip_repeated_work()
    for kind in ({}, {"is_sparse": False}):
        monkeypatch.setattr(implementation, "uses_triton", lambda state: True)
        model, images = build(dtype=torch.float32, **kind)
        expected = passed(model, images)
        for layer in model.layers:
            layer.router.W_q.register_forward_hook(lambda *_: None)
        for ours, theirs in zip(passed(model, images), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


class Adapter(nn.Module):
    """A linear map with a low-rank correction, as fine-tuning libraries put in its place."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Linear(linear.in_features, 1, bias=False, dtype=linear.weight.dtype)
        self.up = nn.Linear(1, linear.out_features, bias=False, dtype=linear.weight.dtype)

    def forward(self, inputs):
        return self.linear(inputs) + self.up(self.down(inputs))


@pytest.mark.parametrize("semantics", AFMP_SEMANTICS)
def test_an_inner_map_can_be_replaced_by_any_module(semantics):
    model, images = build(semantics=semantics)
    before = model(images)
    capsule, name = model.layers[2].pcu, "W_1" if semantics == "refined" else "W_msg"
    setattr(capsule, name, Adapter(getattr(capsule, name)).to(DEVICE))
    changed = model(images)
    assert not torch.allclose(changed[0], before[0])
    changed.sum().backward()
    assert getattr(capsule, name).up.weight.grad.any()


def test_the_readout_can_be_replaced_by_any_module():
    model, images = build()
    features = []
    model.readout["2"].register_forward_hook(lambda module, inputs, output: features.append(inputs[0]))
    model(images)
    model.readout["2"] = nn.Identity()
    assert torch.equal(model(images), features[0]) and features[0].shape == (4, 12)
    model.readout["2"] = nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(0.1), nn.Linear(12, 7)).to(DEVICE, torch.float64)
    assert model(images).shape == (4, 7)


def test_a_layer_can_be_called_by_itself():
    model, images = build()
    shapes = []
    model.layers[0].register_forward_hook(lambda module, inputs, output: shapes.append(output.state.shape))
    model(images)
    state = torch.randn(2, model.num_patches, 12, dtype=torch.float64, device=DEVICE)
    output = model.layers[0](state, model.graph)
    assert shapes[0] == (4, 12, 12) and output.state.shape == (2, 12, 12) and output.gate_sum.shape == (2,)


@pytest.mark.parametrize("kind", ["few kept edges", pytest.param("dense", marks=pytest.mark.long), "notebook"])
def test_a_hooked_model_compiles_and_copies(kind):
    model, images = build(**KINDS[kind])
    model.layers[1].router.W_q.register_forward_hook(lambda module, inputs, output: output * 0.5)
    expected = model(images)
    torch.testing.assert_close(copy.deepcopy(model)(images), expected)
    torch.compiler.reset()  # only so many models may be compiled in one process
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(images), expected)


def test_there_is_a_layer_for_each_semantics():
    assert tuple(LAYERS) == AFMP_SEMANTICS
