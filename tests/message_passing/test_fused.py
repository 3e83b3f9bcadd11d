"""The Triton kernels against the reference: on a GPU where there is one, else through Triton's interpreter.

Errors are measured against float64, and allowed as much as twice those of plain PyTorch in the same precision.
"""

import copy
import platform
import sys

import pytest
import torch
from graphs import grid_graph
from plain_layers import (
    CASES,
    DEVICE,
    HIDDEN,
    LinearMap,
    convert,
    layer_inputs,
    leaves_of,
    map_nodes,
    new_exchange,
    normal,
    packed,
    packed_tensors,
    reference_layer,
    relative_error,
    results,
    tables_of,
    weights_of,
)

from afmp import AFMP
from afmp.message_passing import implementation
from afmp.message_passing.layer import LayerOutput
from afmp.message_passing.neighbours import build_neighbours
from afmp.message_passing.selection import top_k_edges
from afmp.model.stack import stack_models

# torch brings Triton along on Linux x86-64: there, a missing one is an error.
if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    pytest.importorskip("triton", reason="Triton exists for Linux alone")
from afmp.message_passing.all_edges import fused
from afmp.message_passing.kept_edges import fused as kept_edges
from afmp.message_passing.kept_edges import packing
from afmp.message_passing.kept_edges import selection as radix_select


def fused_layer(state, weights, tables, k):
    layer = packed(weights)
    state, mean, gate_sum, scores, _, _, place, *_ = kept_edges.kept_edges_layer(
        state, *packed_tensors(layer), *tables, k, layer.layout.predicts
    )
    return LayerOutput(state, mean, scores, scores, place >= 0, gate_sum)


@pytest.mark.parametrize(("graph", "sizes"), CASES)
@pytest.mark.parametrize("predicts", [True, False])
def test_exchange_equals_the_reference(graph, sizes, predicts):
    tables, edge_slots = tables_of(graph)
    state, weights = layer_inputs(len(tables.nbr), *sizes, predicts=predicts)
    for k in {1, 2, len(edge_slots)}:
        found_inputs, exact_inputs = convert(state, weights, torch.float32), convert(state, weights, torch.float64)
        found = fused_layer(*found_inputs, tables, k)
        exact = reference_layer(*exact_inputs, tables_of(graph, torch.float64)[0], keep=found.keep)
        assert (found.keep.flatten(2).sum(-1) == k).all()
        assert torch.equal(found.keep, top_k_edges(found.scores, tables.valid, k))
        torch.testing.assert_close(found.scores.double(), exact.scores, rtol=1e-4, atol=1e-4)
        pairs = zip(results(found, leaves_of(*found_inputs)), results(exact, leaves_of(*exact_inputs)), strict=True)
        for ours, theirs in pairs:
            assert relative_error(ours, theirs) < 1e-4


def node_operations(state, weights, tables, keep):
    """A layer by the two operators on nodes, which layers take that keep many edges."""
    maps = [weights.own, weights.message, weights.incoming, weights.outgoing]
    own, message, *mapped = map_nodes(state, maps + ([weights.prediction] if weights.prediction else []))
    surprise = (state, mapped[2]) if weights.prediction else (None, None)
    scores = fused.edge_scores_operator(mapped[0], mapped[1], *surprise, *weights.score, *tables)
    place = torch.where(keep, tables.nbr, -1).to(torch.int32)
    gates = weights.gate_weight, weights.gate_bias
    heard, gate_sum = fused.gated_sum_operator(message, scores, place, *gates, tables.nbr, tables.rev)
    return new_exchange(own + heard, scores, keep, gate_sum)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("graph", ["grid", "lone node"])
@pytest.mark.parametrize("keeps", ["few", "all"])
def test_half_precision_is_at_most_twice_as_far_off_as_plain_pytorch(graph, keeps, dtype):
    tables, _ = tables_of(graph)
    # Many models: the error of a gradient of one number a model is a matter of luck, and is taken over all of them.
    state, weights = layer_inputs(len(tables.nbr), 16, 1, 24)
    ours_inputs = convert(state, weights, dtype)
    if keeps == "few":
        ours = fused_layer(*ours_inputs, tables, 3)
    else:
        ours = node_operations(*ours_inputs, tables, tables.valid.expand(16, 1, -1, -1))
    # All three keep the same edges: which are best is a matter of rounding.
    plain_inputs, exact_inputs = convert(state, weights, dtype), convert(state, weights, torch.float64)
    plain = reference_layer(*plain_inputs, tables, keep=ours.keep)
    exact = reference_layer(*exact_inputs, tables_of(graph, torch.float64)[0], keep=ours.keep)
    triples = zip(
        *(
            results(exchange, leaves_of(*inputs))
            for exchange, inputs in ((ours, ours_inputs), (plain, plain_inputs), (exact, exact_inputs))
        ),
        strict=True,
    )
    # Triton's interpreter cuts bfloat16 off where hardware rounds, so is off by as much as a whole unit.
    cut_off = dtype == torch.bfloat16 and DEVICE == "cpu"
    least = torch.finfo(dtype).eps / (1 if cut_off else 8)
    for found, theirs, truth in triples:
        assert relative_error(found, truth) <= 2 * max(relative_error(theirs, truth), least)


@pytest.mark.parametrize(("graph", "sizes"), CASES)
@pytest.mark.parametrize("predicts", [True, False])
@pytest.mark.parametrize(("keep_share", "rows"), [(0.0, 1), (0.5, 3), (1.0, 1)])
def test_node_operations_equal_the_reference(graph, sizes, predicts, keep_share, rows, monkeypatch):
    monkeypatch.setattr(fused, "rows_per_program", lambda rows_per_model: rows)  # 1 below 2,048 rows a model
    tables, _ = tables_of(graph)
    state, weights = layer_inputs(len(tables.nbr), *sizes, predicts=predicts)
    generator = torch.Generator().manual_seed(3)
    keep = (torch.rand(*sizes[:2], *tables.nbr.shape, generator=generator) < keep_share).to(DEVICE) & tables.valid
    found_inputs, exact_inputs = convert(state, weights, torch.float32), convert(state, weights, torch.float64)
    found = node_operations(*found_inputs, tables, keep)
    exact = reference_layer(*exact_inputs, tables_of(graph, torch.float64)[0], keep=keep)
    torch.testing.assert_close(found.scores.double(), exact.scores, rtol=1e-4, atol=1e-4)
    pairs = zip(results(found, leaves_of(*found_inputs)), results(exact, leaves_of(*exact_inputs)), strict=True)
    for ours, theirs in pairs:
        assert relative_error(ours, theirs) < 1e-4


@pytest.mark.parametrize("keeps", ["few", "all"])
def test_the_same_inputs_give_the_same_bits(keeps):
    tables, _ = tables_of("grid")
    inputs = convert(*layer_inputs(len(tables.nbr), 2, 4, 20), torch.float32)

    def layer():
        if keeps == "few":
            return fused_layer(*inputs, tables, 4)
        return node_operations(*inputs, tables, tables.valid.expand(2, 4, -1, -1))

    first, second = (results(layer(), leaves_of(*inputs)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_perfect_prediction_has_a_finite_gradient():
    tables, _ = tables_of("grid")
    state, weights = layer_inputs(len(tables.nbr), 1, 2, 16)
    weights = weights._replace(prediction=LinearMap(torch.zeros(1, 16, 16), torch.ones(1, 16)))
    inputs = convert(torch.ones_like(state), weights, torch.float32)
    assert all(part.isfinite().all() for part in results(fused_layer(*inputs, tables, 5), leaves_of(*inputs)))


@pytest.mark.parametrize("chunk", [64, 4096])  # of 192 slots an image: three programs, or one
@pytest.mark.parametrize("extreme", [0.0, -0.0, torch.nan, torch.inf, -torch.inf])
def test_selection_keeps_exactly_k_of_any_scores(extreme, chunk, monkeypatch):
    monkeypatch.setattr(radix_select, "MAX_BLOCK", chunk)
    tables, edge_slots = build_neighbours(*grid_graph((16, 24)))
    tables, num_edges = type(tables)(*(table.to(DEVICE) for table in tables)), len(edge_slots)
    scores = (
        torch.randn(2, 3, *tables.nbr.shape, generator=torch.Generator().manual_seed(0)).round(decimals=0).to(DEVICE)
    )
    scores.flatten(2)[:, 1:, ::3] = extreme
    scores.flatten(2)[:, 2, ::2] = 0.0
    for k in (1, 5, num_edges):
        slots, place = radix_select.select(scores, tables.valid, k)
        keep = top_k_edges(scores, tables.valid, k)
        assert torch.equal(place >= 0, keep)
        assert torch.equal(slots.flatten(0, 1).long(), keep.flatten(2).flatten(0, 1).nonzero()[:, 1].view(-1, k))
        assert torch.equal(
            place.flatten(2).gather(2, slots.long()), torch.arange(k, device=DEVICE).expand(2, 3, k).int()
        )


@pytest.mark.parametrize(
    ("nodes", "chunk", "most_chunks"),
    [
        pytest.param(24, 16, 128, id="12 chunks"),
        pytest.param(24, 16, 5, id="3 chunks of 4 steps"),
        pytest.param(5000, 32768, 2, id="counts of more than 16 bits"),
    ],
)
@pytest.mark.parametrize("different", [True, False], ids=["few values", "one value"])
def test_selection_is_the_same_however_an_image_is_cut(nodes, chunk, most_chunks, different, monkeypatch):
    monkeypatch.setattr(radix_select, "MAX_BLOCK", chunk)
    monkeypatch.setattr(radix_select, "MAX_CHUNKS", most_chunks)
    scores = torch.randn(2, 1, nodes, 8, generator=torch.Generator().manual_seed(0)).round(decimals=0).to(DEVICE)
    scores = scores if different else torch.full_like(scores, -2.5)
    valid = (torch.arange(nodes * 8, device=DEVICE) % 7 > 0).view(nodes, 8)
    for k in (20, int(valid.sum()) - 1):  # ties go on across the borders of chunks and steps
        slots, place = radix_select.select(scores, valid, k)
        keep = top_k_edges(scores, valid, k)
        assert torch.equal(place >= 0, keep)
        assert torch.equal(slots.flatten(0, 1).long(), keep.flatten(2).flatten(0, 1).nonzero()[:, 1].view(-1, k))


@pytest.mark.parametrize("images", [1, 4, 64, 4096])
@pytest.mark.parametrize("num_slots", [4097, 25_088, 100_352, 401_408, 2**24, 2**30])
def test_an_image_of_any_size_has_few_chunks(num_slots, images):
    chunk = radix_select.chunk_size(images, num_slots)
    assert chunk >= 1024 and chunk & (chunk - 1) == 0
    assert 2 <= -(-num_slots // chunk) <= 128


@pytest.mark.parametrize("predicts", [True, False])
def test_operators_are_well_registered(predicts):
    tables, _ = tables_of("lone node")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 2, 16, predicts=predicts), torch.float32)
    maps = [weights.own, weights.prediction, weights.incoming, weights.outgoing, weights.message]
    weight, bias = (
        torch.cat(parts, dim=1).detach().requires_grad_() for parts in zip(*filter(None, maps), strict=True)
    )
    edge_weights = (*weights.score, weights.gate_weight, weights.gate_bias)
    torch.library.opcheck(kept_edges.kept_edges_layer, (state, weight, bias, *edge_weights, *tables, 2, predicts))
    incoming, outgoing = (torch.randn(2, 2, 5, 2 * HIDDEN, device=DEVICE, requires_grad=True) for _ in range(2))
    surprise = (state, torch.randn_like(state, requires_grad=True)) if predicts else (None, None)
    torch.library.opcheck(fused.edge_scores_operator, (incoming, outgoing, *surprise, *weights.score, *tables))
    scores = torch.randn(2, 2, *tables.nbr.shape, device=DEVICE, requires_grad=True)
    place = torch.where(tables.valid, tables.nbr, -1).to(torch.int32).expand(scores.shape).contiguous()
    gates = weights.gate_weight, weights.gate_bias
    torch.library.opcheck(fused.gated_sum_operator, (state, scores, place, *gates, tables.nbr, tables.rev))


def test_the_first_images_of_several_models_need_not_lie_together():
    tables, _ = tables_of("grid")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 3, 16), torch.float32)
    incoming, outgoing = (torch.randn(2, 1, len(tables.nbr), 2 * HIDDEN, device=DEVICE) for _ in range(2))
    first, prediction = state[:, :1], torch.randn(2, 1, *state.shape[2:], device=DEVICE)
    outcomes = []
    for given in (first, first.contiguous()):
        scores = fused.edge_scores_operator(incoming, outgoing, given, prediction, *weights.score, *tables)
        outcomes.append([scores, *torch.autograd.grad(scores.square().sum(), (state, *weights.score))])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_rows_need_not_lie_evenly_apart():
    tables, _ = tables_of("grid")
    state, weights = convert(*layer_inputs(len(tables.nbr), 2, 3, 16), torch.float32)
    mapped = [torch.randn(2, 3, len(tables.nbr), width, device=DEVICE) for width in (2 * HIDDEN, 2 * HIDDEN, 16)]
    layouts = {
        "other order": lambda rows: rows.transpose(1, 2).contiguous().transpose(1, 2),
        "some images": lambda rows: torch.stack([rows, rows], dim=2).flatten(1, 2)[:, ::2],
        "channels apart": lambda rows: torch.stack([rows, rows], dim=-1).flatten(3)[..., ::2],
    }
    expected = None
    for layout in (lambda rows: rows, *layouts.values()):
        given = [layout(rows.detach()).requires_grad_() for rows in mapped]
        scores = fused.edge_scores_operator(*given[:2], state, given[2], *weights.score, *tables)
        found = [scores, *torch.autograd.grad(scores.square().sum(), (*given, state, *weights.score))]
        expected = expected or found
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def small_stack(models, **kind):
    """Models of 2 layers and 20 channels, stacked; one as it is where there are None."""
    torch.manual_seed(0)
    kind = {"sparsity": 0.4} | kind
    parts = [AFMP(2, 20, img_size=16, patch_size=4, num_classes=5, **kind) for _ in range(models or 1)]
    return (parts[0] if models is None else stack_models(parts)).to(DEVICE)


@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_layers_are_the_layers_own_weights(models, dtype):
    stack = small_stack(models)
    layers = [layer.parameters_by_kind() for layer in stack.layers]
    generator = torch.Generator().manual_seed(1)
    found, expected = [], []
    for number, layer in enumerate(packing.pack_layers(layers, dtype)):
        weights = packed(weights_of(stack.layers[number]))
        found += packed_tensors(layer)
        expected += [weights.weight.to(dtype), weights.bias.to(dtype), *packed_tensors(weights)[2:]]
        assert layer.layout == weights.layout and layer.layout.predicts == (number > 0)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)
    factors = [normal(*part.shape, generator=generator).to(part) for part in expected]
    parameters = [part for layer in layers for part in layer if part is not None]
    gradients = [
        torch.autograd.grad(parts, parameters, factors, allow_unused=True, retain_graph=True)
        for parts in (found, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_packing_operator_is_well_registered():
    layers = [layer.parameters_by_kind() for layer in small_stack(2).layers]
    by_kind = [part for kind in zip(*layers, strict=True) for part in kind if part is not None]
    torch.library.opcheck(packing.pack, (by_kind, [False, True], torch.bfloat16))


def choose_kernels(monkeypatch, *, is_fused):
    """Choose whether Triton's kernels or PyTorch pass messages: the one place that decides."""
    monkeypatch.setattr(implementation, "uses_triton", lambda state: is_fused)


KINDS = {
    "few kept edges": {},
    "many kept edges": {"sparsity": 1.5},
    "dense": {"is_sparse": False},
    "without top-down": {"use_top_down": False},
    "notebook": {"semantics": "notebook", "batch_size": 2},
}


@pytest.mark.parametrize(
    ("kind", "models"),
    [*((kind, 2) for kind in KINDS), *((kind, alone) for kind in ("few kept edges", "dense") for alone in (1, None))],
    ids=str,
)
def test_a_whole_model_gives_the_same_with_the_fused_kernels(kind, models, monkeypatch):
    outcomes = []
    for is_fused in (False, True):
        choose_kernels(monkeypatch, is_fused=is_fused)
        stack = small_stack(models, **KINDS[kind])
        images = torch.randn(models or 1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(2)).to(DEVICE)
        logits, sparsity_loss = stack.forward_train(images if stack.is_stack else images[0])
        (logits.square().sum() + sparsity_loss.sum() * 1e3).backward()
        outcomes.append([logits, sparsity_loss, *(parameter.grad for parameter in stack.parameters())])
    for ours, theirs in zip(*outcomes, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert relative_error(ours, theirs.double()) < 1e-4


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("kind", ["few kept edges", "dense", "notebook"])
def test_a_whole_model_compiles_as_one_graph(kind, is_fused, monkeypatch):
    if not (is_fused and DEVICE == "cuda"):  # there the model asks for itself, and that must not break the graph
        choose_kernels(monkeypatch, is_fused=is_fused)
    stack = small_stack(1, **KINDS[kind])
    images = torch.randn(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    # It raises where it would have to go on outside its graph.
    logits, _ = torch.compile(stack.forward_train, backend="eager", fullgraph=True)(images)
    assert logits.isfinite().all()


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("kind", ["few kept edges", "dense", "notebook"])
@pytest.mark.parametrize("models", [1, 2])
def test_a_batch_of_no_images_has_gradients_of_zero(kind, models, is_fused, monkeypatch):
    choose_kernels(monkeypatch, is_fused=is_fused)
    stack = small_stack(models, **KINDS[kind])
    logits, _ = stack.forward_train(torch.zeros(models, 0, 3, 16, 16, device=DEVICE))
    assert logits.shape == (models, 0, 5)
    logits.sum().backward()
    assert not any(parameter.grad.any() for parameter in stack.parameters() if parameter.grad is not None)


def test_what_is_folded_is_folded_in_full_precision(monkeypatch):
    precisions = []
    bmm = torch.bmm
    monkeypatch.setattr(
        torch, "bmm", lambda *a, **k: (precisions.append(torch.get_float32_matmul_precision()), bmm(*a, **k))[1]
    )
    layers = [layer.parameters_by_kind() for layer in small_stack(2).layers]
    torch.set_float32_matmul_precision("high")
    try:
        packed_layers = packing.pack_layers(layers, torch.float32)
        sum(layer.weight.sum() for layer in packed_layers).backward()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert precisions == ["highest"] * len(precisions) and len(precisions) >= 5


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_properties(0).total_memory < 70e9,
    reason="needs a CUDA GPU with 70 GB",
)
@pytest.mark.parametrize(
    ("pixels", "width", "images", "k"),
    [
        pytest.param((56, 56), 512, 2**31 // (196 * 512) + 2, 58, id="2^31 numbers in a tensor"),
        pytest.param((16, 24), 16, 2**16 + 1, 5, id="2^16 images"),
    ],
)
def test_more_than_a_32_bit_offset_or_an_axis_of_a_grid_holds(pixels, width, images, k, monkeypatch):
    monkeypatch.setattr(radix_select, "MAX_BLOCK", 64)  # several programs an image
    tables, _ = build_neighbours(*grid_graph(pixels))
    tables = type(tables)(*(table.to(DEVICE) for table in tables))
    state, weights = convert(*layer_inputs(len(tables.nbr), 1, 1, width), torch.bfloat16)
    repeated = state.detach().expand(1, images, -1, -1).contiguous().requires_grad_()
    found = fused_layer(repeated, weights, tables, k)
    (gradient,) = torch.autograd.grad(found.state, repeated, torch.ones_like(found.state))
    # One image again and again: what lies beyond the border has to be what lies before it.
    for part in (found.state, found.scores, found.keep, gradient):
        assert torch.equal(part[:, 0], part[:, -1]) and part[:, -1].any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_gpu_gives_what_a_cpu_gives(kind):
    torch.manual_seed(0)
    kind = {"sparsity": 0.3} | kind
    cpu = stack_models([AFMP(4, 128, img_size=32, patch_size=8, **kind) for _ in range(2)])
    images = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    outcomes = []
    with torch.backends.cudnn.flags(allow_tf32=False):
        for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
            model = copy.deepcopy(cpu).to(device, dtype)
            logits, sparsity_loss = model.forward_train(images.to(device, dtype))
            (logits.square().sum() + sparsity_loss.sum() * 1e3).backward()
            outcomes.append([logits, sparsity_loss, *(parameter.grad for parameter in model.parameters())])
    for theirs, ours in zip(*outcomes, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or relative_error(ours.cpu(), theirs) < 1e-3
