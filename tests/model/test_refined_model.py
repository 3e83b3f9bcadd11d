"""`refined` equals its definition, and has the properties that the definition promises."""

import pytest
import refined_oracle
import torch
from oracle_comparison import assert_equals_loops, random_images

from afmp import AFMP, afmp_refined_small, afmp_refined_tiny
from afmp.errors import AfmpError
from afmp.message_passing.selection import top_k_edges_of_nodes
from afmp.model.stack import stack_models

CASES = {
    "k per image": {},
    "all edges": {"is_sparse": False},
    "k per node": {"edges_per_node": 2},
    "more per node than neighbours": {"edges_per_node": 20},
    "no router": {"routing": "none", "is_sparse": False},
    "no messages": {"messages": False},
    "no directions": {"use_directions": False},
    "no errors": {"use_errors": False},
    "without top-down": {"use_top_down": False},
    "not square": {"img_size": (8, 12), "patch_size": 4},
    "one row": {"img_size": (4, 20), "patch_size": 4, "sparsity": 0.6},
    "one patch": {"img_size": 8},
    "window": {"img_size": (8, 12), "patch_size": 4, "scaffold": "window", "window_size": 2, "is_sparse": False},
}


def build(seed=0, **settings) -> AFMP:
    torch.manual_seed(seed)
    defaults = {"num_layers": 3, "d_model": 6, "num_classes": 5, "lambda_sparse": 0.5, "semantics": "refined"}
    return AFMP(**defaults | settings)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_loops_of_the_definition(case):
    assert_equals_loops(build(**CASES[case]).double(), refined_oracle)


@pytest.mark.parametrize("case", ["all edges", "k per node"])
def test_gradients_are_those_of_finite_differences(case):
    model = build(num_layers=2, d_model=4, img_size=(4, 8), patch_size=4, **CASES[case]).double()
    images = random_images(model, 2, torch.float64)
    names, values = zip(*model.named_parameters(), strict=True)
    model.forward = model.forward_train  # the method that `functional_call` calls

    def loss(*parameters):
        logits, sparsity_loss = torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), images)
        return logits.square().sum() + sparsity_loss

    inputs = tuple(value.detach().requires_grad_() for value in values)
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


@pytest.mark.parametrize("case", ["all edges", "k per image", "k per node"])
def test_an_image_does_not_feel_its_batch(case):
    model = build(d_model=16, **CASES[case]).double()
    images = random_images(model, 5, torch.float64)
    torch.testing.assert_close(torch.cat([model(image[None]) for image in images]), model(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_information_reaches_exactly_what_the_hops_of_its_layers_allow(num_layers):
    model = build(num_layers=num_layers, img_size=(4, 28), patch_size=4, is_sparse=False).double()
    images = random_images(model, 1, torch.float64)
    changed = images.clone()
    changed[..., :4] += 1  # the first of seven patches in a row
    before, after = (model.forward_internals(batch).states[-1][0] for batch in (images, changed))
    moved = (before - after).abs().amax(dim=-1) > 0
    assert moved.tolist() == [node <= num_layers for node in range(7)]


@pytest.mark.parametrize("budget", [{"is_sparse": False}, {"edges_per_node": 1}])
def test_a_shift_by_one_patch_shifts_the_states_that_do_not_see_the_border(budget):
    """Without positions, a node knows only its neighbours and their directions."""
    model = build(num_layers=2, img_size=(4, 36), patch_size=4, use_top_down=False, **budget).double()
    torch.nn.init.zeros_(model.position_embed.map.weight)
    images = random_images(model, 2, torch.float64)
    states, shifted = (
        model.forward_internals(batch).states[-1] for batch in (images, images.roll(model.patch_size, dims=-1))
    )
    torch.testing.assert_close(shifted[:, 4:7], states[:, 3:6], rtol=0, atol=1e-12)
    # A mirrored image gives other states: an edge knows its direction.
    mirrored = images.view(2, 3, 4, 9, 4).flip(3).view_as(images)
    assert not torch.allclose(model.forward_internals(mirrored).states[-1].flip(1)[:, 3:6], states[:, 3:6], atol=1e-3)


@pytest.mark.parametrize("case", ["k per image", "all edges", "k per node", "without top-down"])
def test_every_parameter_gets_a_gradient(case):
    model = build(d_model=16, **CASES[case])
    logits, sparsity_loss = model.forward_train(random_images(model, 4))
    (logits.square().sum() + sparsity_loss).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert without == []


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_exactly_k_slots_of_each_node_are_kept_and_of_equal_scores_the_first(k):
    valid = torch.tensor([[True, True, False, True], [False, True, False, False], [True, True, True, True]])
    scores = torch.tensor([[[1.0, 1.0, 9.0, 2.0], [0.0, -torch.inf, 0.0, 0.0], [torch.nan, 5.0, 5.0, 5.0]]])
    keep = top_k_edges_of_nodes(scores, valid, k)
    assert keep.sum(dim=-1).tolist() == [[min(k, int(row.sum())) for row in valid]]
    ranking = [[3, 0, 1], [1], [0, 1, 2, 3]]
    assert [row.nonzero().flatten().tolist() for row in keep[0]] == [sorted(order[:k]) for order in ranking]


def test_random_routing_keeps_as_many_edges_others_in_each_image_and_none_more_often():
    model = build(edges_per_node=2, routing="random")
    images = random_images(model, 400)

    def kept(images):
        return model.forward_internals(images).gates[0].sum(dim=-1) > 0  # (B, E)

    edges, scores = kept(images), model.forward_internals(images).scores[0]
    # The image decides, and no rounding: neither that of the model nor that of a normalised pixel on another device.
    handle = model.layers[0].router.w.register_forward_hook(lambda module, inputs, output: output + 1e-6)
    assert torch.equal(kept(images), edges)
    handle.remove()
    exact = (images * 64).round() / 64
    assert torch.equal(kept(exact * (1 + 2e-7)), kept(exact))
    layers = model.forward_internals(images).gates
    assert not torch.equal(layers[0].sum(dim=-1) > 0, layers[1].sum(dim=-1) > 0)
    assert edges.sum(dim=1).tolist() == [model.top_k] * 400
    assert torch.equal(kept(images[7:9]), edges[7:9]) and not torch.equal(edges[0], edges[1])
    receivers = model.directed_edge_index[0]
    degrees = torch.bincount(receivers)[receivers]
    share = edges.float().mean(dim=0)
    # Five standard deviations of a share of 400 images are at most 0.125.
    assert (share - (2 / degrees).clamp(max=1)).abs().max() < 0.125
    # A kept edge has no better score than another.
    free = degrees > 2
    assert abs(scores[:, free][edges[:, free]].mean() - scores[:, free].mean()) < 0.05 * scores[:, free].std()


@pytest.mark.parametrize(
    ("size", "patch_size", "count"),
    [
        (afmp_refined_tiny, 4, 816_925),
        (afmp_refined_tiny, 8, 818_077),
        (afmp_refined_small, 4, 1_928_202),
        (afmp_refined_small, 16, 1_939_722),
    ],
)
def test_named_sizes_have_the_documented_parameters(size, patch_size, count):
    model = size(img_size=32, patch_size=patch_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == count and model.num_classes == 100


def test_weights_of_one_size_are_those_of_another():
    small, large = build(img_size=16), build(seed=1, img_size=(24, 40))
    trained = {name: value for name, value in small.state_dict().items() if name in dict(small.named_parameters())}
    missing = large.load_state_dict(trained | {n: v for n, v in large.state_dict().items() if n not in trained})
    assert not missing.missing_keys
    assert large(random_images(large, 2)).isfinite().all()


def test_a_stack_computes_what_each_model_does():
    models = [build(seed, d_model=16, edges_per_node=3) for seed in range(3)]
    images = torch.stack([random_images(models[0], 2)] * 3)
    expected = torch.stack([model(batch) for model, batch in zip(models, images, strict=True)])
    torch.testing.assert_close(stack_models(models)(images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"semantics": "paper", "edges_per_node": 2}, "needs? semantics='refined'"),
        ({"semantics": "notebook", "messages": False}, "needs? semantics='refined'"),
        ({"routing": "none"}, "set is_sparse=False"),
        ({"semantics": "paper", "use_directions": False}, "use_directions is False: 'paper' allows True"),
        ({"use_errors": 1}, "use_errors is 1"),
        ({"routing": "best"}, "allowed are learned, random, none"),
        ({"edges_per_node": 0}, "edges_per_node is 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(AfmpError, match=message):
        build(**settings)
