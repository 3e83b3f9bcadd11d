"""Passes that are replayed as CUDA graphs give what they give without. On a CPU, a stand-in takes the graphs' place."""

import copy
import gc
import pickle
import weakref
from collections import OrderedDict

import pytest
import torch
from replayed_models import DEVICE, KINDS, capture_training, images_of, replayed_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from afmp.model.captured_pass import Conditions
from afmp.model.replay import MAX_GRAPHS, MAX_RECAPTURES, SIGHTINGS, SIGHTINGS_TO_REPLACE
from afmp.model.stack import stack_models


def loss_of(results) -> torch.Tensor:
    logits, sparsity_loss = results
    return logits.float().square().mean() + sparsity_loss


def gradients(model) -> list[torch.Tensor | None]:
    return [each.grad for each in model.parameters()]


def assert_same(found, expected) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert torch.equal(ours, theirs) or torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
            assert ours.dtype == theirs.dtype and ours.requires_grad == theirs.requires_grad


class Pair:
    """A model that replays, with its training pass captured, and one that does not."""

    def __init__(self, kind: str = "paper", **changes) -> None:
        self.replayed = replayed_model(kind, **changes)
        self.plain = copy.deepcopy(self.replayed)
        self.plain.set_replay(False)
        if DEVICE == "cpu":
            self.replayed._replay.graphs = type(replayed_model()._replay.graphs)()
        capture_training(self.replayed, images_of(99))

    def replays(self) -> int:
        return self.replayed._replay.num_replays

    def check(self, steps, *, replays: int | None = None) -> None:
        """Call `steps` with each model; it returns tensors that must be the same. So must all gradients."""
        before = self.replays()
        found, expected = steps(self.replayed), steps(self.plain)
        assert_same(found, expected)
        assert_same(gradients(self.replayed), gradients(self.plain))
        if replays is not None:
            assert self.replays() - before == replays


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_training_gives_the_same_weights(kind, dtype):
    models = [replayed_model(kind), replayed_model(kind)]
    models[1].set_replay(False)
    outcomes = []
    for model in models:
        optimizer, found = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9), []
        for step in range(SIGHTINGS + 3):
            with torch.autocast(DEVICE, dtype or torch.bfloat16, enabled=dtype is not None):
                results = model.forward_train(images_of(step))
            found += results
            optimizer.zero_grad(set_to_none=step % 2 == 0)
            loss_of(results).backward()
            optimizer.step()
        outcomes.append([*found, *model.parameters()])
    assert (models[0]._replay.num_replays, models[1]._replay.num_replays) == (4, 0)
    assert_same(*outcomes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_inference_gives_the_same_answers(kind, context):
    model = replayed_model(kind)
    plain = copy.deepcopy(model)
    plain.set_replay(False)
    for step in range(SIGHTINGS + 2):
        with context():
            found, expected = model(images_of(step)), plain(images_of(step))
        assert_same([found], [expected])
        assert found.is_inference() == expected.is_inference()
    assert model._replay.num_replays == 3
    with torch.no_grad():
        first, second = model(images_of(1)), model(images_of(2))  # results are no memory of the graph
        assert_same([first, second], [plain(images_of(1)), plain(images_of(2))])


def test_gradients_add_up_over_passes():
    pair = Pair()

    def steps(model):
        for number in range(3):
            loss_of(model.forward_train(images_of(number))).backward()
        return []

    pair.check(steps, replays=3)


def test_two_forward_passes_before_their_backward_passes():
    pair = Pair()

    def steps(model):
        first, second = (loss_of(model.forward_train(images_of(number))) for number in range(2))
        (first * second).backward()
        return [first, second]

    pair.check(steps, replays=1)
    pair.check(steps, replays=1)


def test_a_pass_whose_results_are_gone_does_not_block_the_next():
    pair = Pair()
    with torch.enable_grad():
        for number in range(3):
            model_results = pair.replayed.forward_train(images_of(number))
            del model_results
    assert pair.replays() == 4


def test_an_evaluation_between_forward_and_backward_changes_nothing():
    pair = Pair()
    for model in (pair.replayed, pair.plain):
        with torch.no_grad():
            for number in range(SIGHTINGS):
                model(images_of(number))

    def steps(model):
        results = model.forward_train(images_of(1))
        with torch.no_grad():
            answers = model(images_of(2))
        loss_of(results).backward()
        return [answers]

    pair.check(steps, replays=1)


def test_a_second_backward_pass_computes_again():
    pair = Pair()

    def steps(model):
        loss = loss_of(model.forward_train(images_of(1)))
        loss.backward(retain_graph=True)
        loss_of(model.forward_train(images_of(2))).backward()  # uses the memory of the first
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
        return []

    pair.check(steps, replays=2)


def test_images_that_changed_before_a_second_backward_pass_are_an_error():
    pair, images = Pair(), images_of(1)
    loss = loss_of(pair.replayed.forward_train(images))
    images.zero_()
    loss.backward(retain_graph=True)  # as without graphs: the forward pass has read them
    with pytest.raises(RuntimeError, match="images were changed in place"):
        loss.backward()


def test_weights_that_changed_in_place_are_an_error():
    pair = Pair()
    loss = loss_of(pair.replayed.forward_train(images_of(1)))
    with torch.no_grad():
        pair.replayed.layers[0].pcu.W_msg.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_of_one_result_and_of_images():
    pair = Pair()

    def of_one(model):
        model.forward_train(images_of(1))[1].backward()
        return torch.autograd.grad(model.forward_train(images_of(2))[0].sum(), [model.embed.weight])

    pair.check(of_one, replays=2)

    def of_images(model):
        found = []
        for number in range(SIGHTINGS):
            images = images_of(number).requires_grad_()
            model(images)[:, 0].sum().backward()
            found.append(images.grad)
        return found

    pair.check(of_images, replays=1)


def test_frozen_layers_have_no_gradient():
    pair = Pair()
    for model in (pair.replayed, pair.plain):
        model.layers[0].requires_grad_(False)
    capture_training(pair.replayed, images_of(1))

    def steps(model):
        results = model.forward_train(images_of(2))
        loss_of(results).backward()
        return results

    pair.check(steps, replays=1)
    assert pair.replayed.layers[0].router.U.grad is None


def test_hooks_on_parameters_run_once():
    pair = Pair()
    for model in (pair.replayed, pair.plain):
        model.embed.weight.register_hook(lambda gradient: 2 * gradient)
    capture_training(pair.replayed, images_of(1, count=4))  # with the hook

    def steps(model):
        for count in (3, 4):
            loss_of(model.forward_train(images_of(2, count))).backward()
        return []

    pair.check(steps, replays=2)


@pytest.mark.parametrize("part", ["layers.0", "layers.0.router.W_q", "embed", "readout.2"])
def test_hooks_on_modules_run(part):
    pair, called = Pair(), []
    hook = pair.replayed.get_submodule(part).register_forward_hook(lambda *_: called.append(part))
    pair.replayed.forward_train(images_of(1))
    hook.remove()
    everywhere = nn.modules.module.register_module_forward_hook(lambda module, *_: called.append(type(module).__name__))
    pair.replayed.forward_train(images_of(1))
    everywhere.remove()
    assert called[0] == part and "Linear" in called
    pair.check(lambda model: model.forward_train(images_of(1)), replays=1)
    called.clear()
    pair.replayed.get_submodule(part)._forward_hooks = OrderedDict()  # as code does that removes all hooks
    pair.replayed.get_submodule(part).register_forward_hook(lambda *_: called.append(part))
    pair.replayed.forward_train(images_of(1))
    assert called == [part]


class SeesOperations(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


CONTEXTS = {
    "dispatch mode": SeesOperations,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "forward mode": torch.autograd.forward_ad.dual_level,
    "hooks on saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor, lambda tensor: tensor
    ),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_contexts_that_see_operations_see_them(context):
    def steps(model):
        with context():
            results = model.forward_train(images_of(1))
        loss_of(results).backward()
        return results

    pair = Pair()
    pair.check(steps, replays=0)
    pair.check(lambda model: model.forward_train(images_of(2)), replays=1)


def test_what_a_graph_cannot_repeat_is_computed_as_before():
    pair = Pair()

    def recomputed(model):
        return torch.utils.checkpoint.checkpoint(model.forward_train, images_of(1), use_reentrant=False)

    def transformed(model):
        weights = {name: each.detach() for name, each in model.named_parameters()}
        return [
            *torch.func.functional_call(model, weights, (images_of(1),), {"return_sparsity_loss": True}),
            *torch.func.vmap(model.forward_train)(images_of(1)[:, None]),
        ]

    def with_tensor(model):
        factor = model.lambda_sparse
        model.lambda_sparse = torch.tensor(0.2, device=DEVICE, requires_grad=True)
        for _ in range(SIGHTINGS + 1):
            model.forward_train(images_of(1))[1].backward()
        gradient, model.lambda_sparse = model.lambda_sparse.grad, factor
        return [gradient]

    def with_adapter(model):
        model.layers[0].pcu.W_msg = nn.Sequential(model.layers[0].pcu.W_msg, nn.Dropout(0.0))
        return [model(images_of(1)) for _ in range(SIGHTINGS + 1)]

    def with_lazy_map(model):
        torch.manual_seed(0)
        model.layers[0].pcu.W_msg = nn.LazyLinear(16, device=DEVICE)
        return [model(images_of(1)) for _ in range(SIGHTINGS + 1)]

    for steps in (recomputed, transformed, with_tensor, with_adapter):
        pair.check(steps, replays=0)
    pair.check(with_lazy_map)  # a map as any other, once it has weights


def test_weights_that_are_stored_in_another_way_are_captured_again():
    pair = Pair()

    def fewer_classes(model):
        for name in ("weight", "bias"):
            part = getattr(model.readout["2"], name)
            part.data = part.data[:3]  # at the same address

    def transposed(model):
        model.layers[0].pcu.W_msg.weight.data = model.layers[0].pcu.W_msg.weight.data.t()

    for change in (fewer_classes, transposed):
        for model in (pair.replayed, pair.plain):
            model.zero_grad()
            change(model)
        pair.check(lambda model: model.forward_train(images_of(2)), replays=0)
        capture_training(pair.replayed, images_of(1))


@pytest.mark.parametrize("kind", ["products", "all"])
def test_another_precision_of_products_is_another_graph(kind):
    model, images = replayed_model(), images_of(1)

    def settings():
        return Conditions(model, images, with_loss=True, cast=None, wanted=[], images_wanted=False).settings

    everywhere, products = torch.backends, torch.backends.cuda.matmul
    before, exact = (everywhere.fp32_precision, products.fp32_precision), settings()
    try:
        if kind == "products":
            products.fp32_precision = "tf32"
            assert settings() != exact
        else:
            everywhere.fp32_precision, products.fp32_precision = "tf32", "none"  # none: as everywhere
            narrow = settings()
            products.fp32_precision = "ieee"
            assert settings() == exact and narrow != exact
    finally:
        everywhere.fp32_precision, products.fp32_precision = before


def test_another_setting_is_another_graph():
    pair = Pair()

    @torch.no_grad()
    def steps(model):
        model.sparsity, model.lambda_sparse = 1.0, 0.1
        found = [each for number in range(SIGHTINGS) for each in model.forward_train(images_of(number))]
        model.sparsity, model.lambda_sparse = 0.3, 0.0
        return [*found, *(each for number in range(SIGHTINGS) for each in model.forward_train(images_of(number)))]

    pair.check(steps)
    assert pair.replayed._replay.num_graphs == 3


def test_moved_weights_are_captured_again_but_not_for_ever(caplog):
    pair = Pair()
    for number in range(MAX_RECAPTURES + 1):
        for model in (pair.replayed, pair.plain):
            model.embed.weight = nn.Parameter(model.embed.weight.detach() + 1)
        if number == MAX_RECAPTURES:
            break
        capture_training(pair.replayed, images_of(1))
        pair.check(lambda model: model.forward_train(images_of(2)), replays=1)
    assert not caplog.records
    pair.check(lambda model: model.forward_train(images_of(2)))
    assert not pair.replayed._replay.enabled and len(caplog.records) == 1


def test_loaded_weights_and_graphs_count():
    pair = Pair()
    other = replayed_model("paper", scaffold="window", window_size=2)
    for model in (pair.replayed, pair.plain):
        model.load_state_dict(other.state_dict())
    capture_training(pair.replayed, images_of(1))
    pair.check(lambda model: model.forward_train(images_of(2)), replays=1)


def test_only_so_many_graphs_are_kept():
    model = replayed_model()
    with torch.no_grad():
        for count in range(1, MAX_GRAPHS + 3):
            for _ in range(SIGHTINGS):
                model(images_of(0, count))
        assert model._replay.num_graphs == MAX_GRAPHS
        for _ in range(SIGHTINGS_TO_REPLACE - SIGHTINGS):
            model(images_of(0, MAX_GRAPHS + 1))
    assert model._replay.num_graphs == MAX_GRAPHS


def out_of_memory(function):
    raise torch.OutOfMemoryError("CUDA out of memory")


FAULTS = {
    "capture": (out_of_memory, "OutOfMemoryError: CUDA out of memory"),
    "leaves_room": (
        lambda: False,
        "MemoryError: beside it no other pass of this size would fit into the memory of the GPU",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_capture_is_reported_once_and_computed_as_before(fault, caplog, monkeypatch):
    pair, (function, message) = Pair(), FAULTS[fault]
    monkeypatch.setattr(pair.replayed._replay.graphs, fault, function)

    def steps(model):
        return [model(images_of(number, count=2)) for number in range(SIGHTINGS + 2)]

    pair.check(steps, replays=0)
    assert [record.getMessage() for record in caplog.records] == [
        f"AFMP computes images of shape (2, 3, 16, 16) without a CUDA graph: {message}"
    ]
    pair.check(lambda model: model.forward_train(images_of(2)), replays=1)


def test_copies_and_stacks_start_without_graphs():
    pair = Pair()
    for other in (copy.deepcopy(pair.replayed), pickle.loads(pickle.dumps(pair.replayed))):
        assert other._replay is not pair.replayed._replay and other._replay.num_graphs == 0
        assert other._replay.enabled
    assert not stack_models([pair.plain])._replay.enabled
    assert "_replay" not in "".join(pair.replayed.state_dict())
    shallow = copy.copy(pair.replayed)
    assert_same(shallow.forward_train(images_of(1)), pair.plain.forward_train(images_of(1)))


def test_a_stack_replays():
    stack = stack_models([replayed_model(), replayed_model()])
    plain = copy.deepcopy(stack)
    plain.set_replay(False)
    stack._replay.graphs = type(replayed_model()._replay.graphs)()
    for step in range(SIGHTINGS + 1):
        images = torch.stack([images_of(step), images_of(step + 1)])
        for model in (stack, plain):
            model.zero_grad()
            loss_of([part.sum() for part in model.forward_train(images)]).backward()
        assert_same(gradients(stack), gradients(plain))
    assert stack._replay.num_replays == 2


def test_the_memory_of_a_deleted_model_is_free_at_once():
    model = replayed_model()
    for _ in range(SIGHTINGS if DEVICE == "cuda" else SIGHTINGS - 1):  # the stand-in keeps what it runs again
        loss_of(model.forward_train(images_of(1))).backward()
    weight = weakref.ref(model.embed.weight)
    gc.disable()
    try:
        del model
        assert weight() is None
    finally:
        gc.enable()
