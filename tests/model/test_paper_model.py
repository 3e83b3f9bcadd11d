"""`paper` equals its definition, and has the properties the text claims."""

import paper_oracle
import pytest
import torch
from oracle_comparison import assert_equals_loops, random_images
from torch.utils._python_dispatch import TorchDispatchMode

from afmp import AFMP, afmp_small, afmp_tiny
from afmp.errors import AfmpError
from afmp.model.top_down import TopDownAggregator, hierarchy_map

# The first layer has no previous output to predict from, so these two have no gradient, and they alone.
WITHOUT_GRADIENT = {"layers.0.router.W_pred.weight", "layers.0.router.W_pred.bias"}

ORACLE_CASES = {
    "sparse": {},
    "dense": {"is_sparse": False},
    "without top-down": {"use_top_down": False},
    "one edge": {"sparsity": 0.0},
    "k above E": {"sparsity": 100.0},
    "not square": {"img_size": (8, 12), "patch_size": 4},
    "one row": {"img_size": (4, 20), "patch_size": 4, "sparsity": 0.6},
    "two patches": {"img_size": (8, 16)},
    "one patch": {"img_size": 8},
    "window": {"img_size": (8, 12), "patch_size": 4, "scaffold": "window", "window_size": 2},
    "wide window": {"img_size": (4, 48), "patch_size": 4, "scaffold": "window", "window_size": 10},
}


def build(seed=0, **settings) -> AFMP:
    torch.manual_seed(seed)
    return AFMP(**{"num_layers": 3, "d_model": 6, "num_classes": 5, "lambda_sparse": 0.5, **settings})


@pytest.mark.parametrize("case", ORACLE_CASES)
def test_equals_the_loops_of_the_definition(case):
    assert_equals_loops(build(**ORACLE_CASES[case]).double(), paper_oracle)


@pytest.mark.parametrize("is_sparse", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_an_image_does_not_feel_its_batch(is_sparse, dtype, tolerance):
    model = build(d_model=16, is_sparse=is_sparse).to(dtype)
    images = random_images(model, 9, dtype)
    together = model(images)
    alone = torch.cat([model(image[None]) for image in images])
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    reordered = torch.empty_like(together)
    reordered[order] = model(images[order])
    with_others = model(torch.cat([images[:3], 100 * images[3:]]))[:3]
    for other, expected in ((alone, together), (reordered, together), (with_others, together[:3])):
        torch.testing.assert_close(other, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_information_reaches_exactly_the_patches_that_the_layers_allow(num_layers):
    model = build(num_layers=num_layers, is_sparse=False, use_top_down=False, img_size=(40, 32))
    num_patches = model.num_patches
    hears = torch.eye(num_patches)
    hears[tuple(model.directed_edge_index)] = 1
    reach = torch.linalg.matrix_power(hears, num_layers) > 0
    assert num_layers == 3 or not reach.all()

    images = random_images(model, 2).requires_grad_()
    state = model.forward_internals(images).states[-1]
    for image in range(2):
        for node in range(num_patches):
            (gradient,) = torch.autograd.grad(state[image, node].sum(), images, retain_graph=True)
            felt = gradient.reshape(2, 3, 5, 8, 4, 8).abs().sum(dim=(1, 3, 5)).flatten(1) > 0
            assert torch.equal(felt[image], reach[node])
            assert not felt[1 - image].any()


@pytest.mark.parametrize("is_sparse", [True, False])
def test_every_parameter_gets_a_gradient(is_sparse):
    model = build(d_model=16, is_sparse=is_sparse)
    logits, sparsity_loss = model.forward_train(random_images(model, 16))
    (torch.nn.functional.cross_entropy(logits, torch.arange(16) % 5) + sparsity_loss).backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent == WITHOUT_GRADIENT
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(("sparsity", "expected"), [(0.0, 1), (0.3, 4), (1.0, 16), (4.1, 65), (4.2, 66), (9, 66)])
def test_exactly_k_edges_of_an_image_have_a_gate(sparsity, expected):
    model = build(sparsity=sparsity)
    assert model.top_k == expected
    for gates in model.forward_internals(random_images(model, 3)).gates:
        assert (gates != 0).all(dim=2).sum(dim=1).tolist() == [expected] * 3
        assert (gates != 0).any(dim=2).sum(dim=1).tolist() == [expected] * 3


def test_equal_scores_keep_the_first_edges():
    model = build()
    with torch.no_grad():
        for layer in model.layers:
            layer.router.U.zero_()
            layer.router.v[2].weight.zero_()
    for gates in model.forward_internals(random_images(model, 2)).gates:
        kept = (gates != 0).any(dim=2)
        assert kept[:, :4].all()
        assert not kept[:, 4:].any()


def test_top_k_reads_sparsity_as_a_decimal():
    assert 0.29 * 100 < 29
    assert build(sparsity=0.29, img_size=80).top_k == 29


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (afmp_tiny(), 435_688),
        (afmp_tiny(use_top_down=False), 386_152),
        (afmp_tiny(semantics="notebook"), 435_688),
        *((afmp_small(img_size=size), 6_119_913) for size in (64, 128, 224, 512)),
    ],
)
def test_parameter_counts(model, expected):
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(("side", "undirected"), [(4, 33), (12, 385), (14, 533)])
def test_edge_counts_and_neighbour_tables_of_grids(side, undirected):
    model = build(img_size=8 * side)
    assert model.edge_index.shape == (2, undirected)
    assert (model.edge_index[0] < model.edge_index[1]).all()
    assert model.num_directed_edges == 2 * undirected
    assert model.directed_edge_index.shape == (2, 2 * undirected)
    assert model.nbr.shape == (side * side, 8)


def test_training_stores_no_edge_by_channel_and_no_node_by_node_tensor():
    # Wide enough that E * D stands out from the weights of the router, whose width is fixed.
    model = build(num_layers=2, d_model=96, img_size=80)
    num_nodes, num_edges, d_model, num_images = model.num_patches, model.num_directed_edges, 96, 2
    saved = []

    def keep(tensor):
        saved.append(tensor)
        return tensor

    images = random_images(model, num_images)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits, sparsity_loss = model.forward_train(images)
    (logits.sum() + sparsity_loss).backward()
    assert len(saved) > 10
    of_images = [tensor for tensor in saved if tensor.dim() and tensor.shape[0] == num_images]
    assert max(tensor.numel() for tensor in of_images) // num_images < num_edges * d_model
    # Node-sized, or a scalar a slot: nothing between.
    allowed = {3 * 8 * 8, d_model, 128, 8}
    assert all(tensor.dim() < 3 or tensor.shape[2] in allowed for tensor in of_images)
    assert all(tensor.shape[-2:] != (num_nodes, num_nodes) for tensor in saved)


class Operations(TorchDispatchMode):
    """Names of all operations that run, forward and backward."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arguments", [{}, {"is_sparse": False}, {"semantics": "notebook"}])
def test_training_asks_the_host_for_nothing(arguments):
    model = build(**arguments)
    images = random_images(model, 4)
    with Operations() as operations:
        logits, sparsity_loss = model.forward_train(images)
        (logits.sum() + sparsity_loss).backward()
    assert {"addmm", "gelu_backward"} <= operations.names
    reads_values = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "index", "equal"}
    assert not operations.names & reads_values


@pytest.mark.parametrize("is_sparse", [True, False])
def test_bfloat16_autocast_is_near_float32(is_sparse):
    model = build(d_model=32, is_sparse=is_sparse)
    images = random_images(model, 16)
    results = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits, sparsity_loss = model.forward_train(images)
        (torch.nn.functional.cross_entropy(logits.float(), torch.arange(16) % 5) + sparsity_loss).backward()
        gradients = [p.grad.flatten() for name, p in model.named_parameters() if name not in WITHOUT_GRADIENT]
        results.append((logits.float(), torch.cat(gradients)))
    assert logits.dtype == torch.bfloat16
    assert sparsity_loss.dtype == torch.float32
    for plain, cast in zip(*results, strict=True):
        assert (plain - cast).norm() < 0.1 * plain.norm()


def test_the_dense_model_has_no_regulariser():
    model = build(is_sparse=False)
    logits, sparsity_loss = model.forward_train(random_images(model, 2))
    assert sparsity_loss == 0
    (logits.sum() + sparsity_loss).backward()


def test_refined_states_are_the_states_without_top_down():
    model = build(use_top_down=False)
    internals = model.forward_internals(random_images(model, 2))
    assert all(torch.equal(*pair) for pair in zip(internals.states, internals.refined_states, strict=True))


def test_a_model_keeps_the_graph_it_was_trained_with():
    trained = build(scaffold="window", window_size=3)
    images = random_images(trained, 2)
    fresh = build(seed=5)
    fresh.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(fresh.directed_edge_index, trained.directed_edge_index)
    assert fresh.top_k == trained.top_k
    assert torch.equal(fresh(images), trained(images))


@pytest.mark.promise("unfitting-graph")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"static_positions": torch.zeros(9, 2)}, ("static_positions", "(9, 2)", "16 patches", "img_size")),
        ({"edge_index": torch.tensor([[0, 99], [1, 2]])}, ("0 to 99", "0 to 15")),
        ({"edge_index": torch.tensor([[0, 1], [1, 1]])}, ("to itself",)),
        ({"edge_index": torch.tensor([[0, 0], [1, 1]])}, ("twice",)),
        ({"edge_index": torch.zeros(2, 2)}, ("torch.float32", "torch.int64")),
        ({"edge_attr": torch.ones(33)}, ("edge_attr", "distances")),
    ],
)
def test_a_graph_that_cannot_be_taken_over_is_refused(change, words):
    model = build()
    with pytest.raises(AfmpError) as caught:
        model.load_state_dict({**model.state_dict(), **change})
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_layers": 0}, ("num_layers is 0", "1 or more")),
        ({"d_model": 1.5}, ("d_model is 1.5", "whole number")),
        ({"num_classes": True}, ("num_classes is True", "whole number")),
        ({"batch_size": -1}, ("batch_size is -1", "1 or more")),
        ({"patch_size": 5}, ("patch_size is 5", "32 x 32")),
        ({"sparsity": -0.1}, ("sparsity is -0.1", "0 or more")),
        ({"sparsity": float("nan")}, ("sparsity is nan", "finite")),
        ({"lambda_sparse": "high"}, ("lambda_sparse is 'high'", "number")),
        ({"is_sparse": 1}, ("is_sparse is 1", "True and False")),
        ({"use_top_down": None}, ("use_top_down is None", "True and False")),
        ({"semantics": "seed"}, ("semantics is 'seed'", "paper, notebook")),
        ({"scaffold": "knn"}, ("scaffold is 'knn'", "delaunay, window")),
        ({"window_size": 0}, ("window_size is 0", "1 or more")),
    ],
)
def test_arguments_that_are_not_allowed_are_named(arguments, words):
    with pytest.raises(AfmpError) as caught:
        AFMP(**arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 32, 40), torch.zeros(3, 32, 32), torch.zeros(2, 3, 32, 32).byte()],
)
def test_images_that_do_not_fit_are_refused(images):
    with pytest.raises(AfmpError, match=r"\(batch, 3, 32, 32\)"):
        build()(images)


@pytest.mark.parametrize(
    ("n_low", "n_high", "expected"),
    [
        (4, 4, [0, 1, 2, 3]),
        (6, 3, [0, 0, 1, 1, 2, 2]),
        (7, 3, [0, 0, 1, 1, 2, 2, 2]),
        (5, 3, [0, 1, 2, 2, 2]),
        (2, 3, [-1, -1]),
        (3, 0, [-1, -1, -1]),
        (0, 3, []),
    ],
)
def test_hierarchy_maps_for_any_node_counts(n_low, n_high, expected):
    assert hierarchy_map(n_low, n_high).tolist() == expected
    torch.manual_seed(0)
    aggregator = TopDownAggregator(3).double()
    lower, higher = torch.randn(1, 2, n_low, 3).double(), torch.randn(1, 2, n_high, 3).double()
    matrix = torch.zeros(n_low, n_high).double()  # the original notebook's dense map
    for child, parent in enumerate(expected):
        if parent >= 0:
            matrix[child, parent] = 1
    torch.testing.assert_close(aggregator(lower, higher), lower + aggregator.W_t(matrix @ higher))
