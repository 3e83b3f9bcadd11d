"""AFMP as an ordinary PyTorch model: wrappers, copies, transforms, export, recomputation, devices without values."""

import copy
import pickle
import socket
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from training_runs import FORKSERVER

from afmp import AFMP
from afmp.errors import AfmpError
from afmp.model.stack import stack_models
from afmp.model.weights import load_weights

KINDS = {
    "paper": {},
    "all edges": {"is_sparse": False},
    "notebook": {"semantics": "notebook"},
    "refined": {"semantics": "refined", "is_sparse": False},
    "refined k per node": {"semantics": "refined", "edges_per_node": 2},
    "no router": {"semantics": "refined", "routing": "none", "is_sparse": False},
}
# Of tests that take a second each, `make test` runs one kind.
SLOW_KINDS = [kind if kind == "paper" else pytest.param(kind, marks=pytest.mark.long) for kind in KINDS]
OWN_IMAGE = [kind for kind in KINDS if kind != "notebook"]  # where the rest of a batch changes no output


def build(kind: str, **changes) -> tuple[AFMP, torch.Tensor]:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "num_classes": 5, "lambda_sparse": 0.5}
    return AFMP(2, 12, **sizes, **KINDS[kind], **changes), torch.randn(3, 3, 16, 16)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def train_two_steps(rank: int, port: int, folder) -> None:
    """Train every kind for two steps of DistributedDataParallel, with its defaults, and save the weights."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    for kind in KINDS:
        model, images = build(kind)
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.AdamW(wrapped.parameters(), 0.01)
        for _ in range(2):
            logits, sparsity_loss = wrapped(images[rank:], return_sparsity_loss=True)
            optimizer.zero_grad()
            (logits.square().mean() + sparsity_loss).backward()
            optimizer.step()
        torch.save(model.state_dict(), folder / f"{kind} {rank}.pth")
    torch.distributed.destroy_process_group()


def test_two_processes_train_with_the_defaults_of_distributed_data_parallel(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [FORKSERVER.Process(target=train_two_steps, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for kind in KINDS:
        first, second = (torch.load(tmp_path / f"{kind} {rank}.pth") for rank in range(2))
        untrained = dict(build(kind)[0].named_parameters())
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(first["layers.1.router.W_gate.bias"], untrained["layers.1.router.W_gate.bias"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_that_requires_a_gradient_has_one(kind):
    model, images = build(kind)
    for _ in range(2):  # also after all parameters were frozen and trained again, as in fine-tuning
        model.zero_grad()
        model(images).square().sum().backward()
        assert set(gradients(model)) == {name for name, each in model.named_parameters() if each.requires_grad}
        model.requires_grad_(False).requires_grad_(True)
    stack = stack_models([model, copy.deepcopy(model)])
    for own, stacked in zip(model.parameters(), stack.parameters(), strict=True):
        assert own.requires_grad == stacked.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_unused_weights_are_stored_and_an_optimizer_leaves_them(kind):
    """As before they were frozen: AdamW updates no parameter without a gradient, and does not decay it either."""
    model, images = build(kind)
    frozen, thawed = model, copy.deepcopy(model)
    for parameter in thawed.parameters():
        parameter.requires_grad = True
    for each in (frozen, thawed):
        optimizer = torch.optim.AdamW(each.parameters(), 0.01, weight_decay=0.1)
        logits, sparsity_loss = each.forward_train(images)
        (logits.square().sum() + sparsity_loss).backward()
        optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(frozen.parameters(), thawed.parameters(), strict=True))
    if kind == "paper":
        assert not frozen.layers[0].router.W_pred.weight.requires_grad
        assert "layers.0.router.W_pred.weight" in frozen.state_dict()


@pytest.mark.parametrize("kind", ["paper", "refined k per node"])
def test_second_derivatives_are_those_of_finite_differences(kind):
    model, images = build(kind)
    model, images = model.double(), images.double()
    parameters = {name: each.detach() for name, each in model.named_parameters()}
    gradient = grad(lambda inputs: functional_call(model, parameters, inputs).square().sum())
    direction, step = torch.randn_like(images), 1e-6
    (_, found) = jvp(gradient, (images,), (direction,))
    expected = (gradient(images + step * direction) - gradient(images - step * direction)) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["paper", "refined k per node"])
def test_second_derivatives_without_torch_func_end_with_the_errors_that_the_document_quotes(kind):
    model, images = build(kind)
    model, images = model.cpu(), images.cpu().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice a function that was marked with @once_differentiable"):
        gradient.sum().backward()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="You must implement the jvp function"):
        model(forward_ad.make_dual(images.detach(), torch.ones_like(images)))


@pytest.mark.parametrize("kind", KINDS)
def test_copies_answer_as_the_model(kind):
    model, images = build(kind)
    expected = model(images)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images), expected)
        assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in model.parameters()]
        other.sparsity = 1.0  # a copy has its own budget
        assert other.layers[0].budget is other.budget and model.sparsity == 0.3


WRAPPERS = {"DataParallel": nn.DataParallel, "compile": partial(torch.compile, backend="eager", fullgraph=True)}


@pytest.mark.parametrize("wrapper", ["DataParallel", pytest.param("compile", marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sparsity_loss_is_reached_through_wrappers(kind, wrapper):
    model, images = build(kind)
    torch.compiler.reset()
    found = WRAPPERS[wrapper](model)(images, return_sparsity_loss=True)
    for part, expected in zip(found, model.forward_train(images), strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_function_transforms(kind):
    model, images = build(kind)
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def loss(parameters, images):
        logits, sparsity_loss = functional_call(model, parameters, (images,), {"return_sparsity_loss": True})
        return logits.square().sum() + sparsity_loss

    torch.testing.assert_close(functional_call(model, parameters, (images,)), model(images))
    loss(dict(model.named_parameters()), images).backward()
    found = grad(loss)(parameters, images)
    for name, expected in gradients(model).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
    per_image = vmap(grad(loss), in_dims=(None, 0))(parameters, images[:, None])
    one = grad(loss)(parameters, images[1:2])
    for name, several in per_image.items():
        torch.testing.assert_close(several[1], one[name], rtol=1e-4, atol=1e-5)
    if kind in OWN_IMAGE:
        torch.testing.assert_close(vmap(model)(images[:, None])[:, 0], model(images))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_layers_have_the_same_gradients(kind, dtype):
    model, images = build(kind)
    found = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits, sparsity_loss = model.forward_train(images)
        (logits.float().square().sum() + sparsity_loss).backward()
        found.append([logits, *gradients(model).values()])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_recomputed_layers_keep_less():
    model, images = build("all edges")
    kept = []
    for recompute in (False, True):
        model.set_grad_checkpointing(recompute)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: (sizes.append(t.nbytes), t)[1], lambda t: t
        ):
            model(images)
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]


@pytest.mark.long
def test_recomputed_layers_compile_as_one_graph():
    model, images = build("paper")
    expected = model(images)
    model.set_grad_checkpointing()
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(images), expected)


EVERY_KIND = KINDS | {
    "random edges": {"semantics": "refined", "routing": "random"},
    "window": {"scaffold": "window", "window_size": 3},
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_the_meta_device_gives_the_shapes(kind):
    settings = {"img_size": 16, "patch_size": 4, "num_classes": 5, "lambda_sparse": 0.5} | EVERY_KIND[kind]
    with torch.device("meta"):
        model, images = AFMP(2, 12, **settings), torch.randn(3, 3, 16, 16)
    assert {part.device.type for part in (*model.parameters(), *model.buffers())} == {"meta"}
    model.set_grad_checkpointing()
    logits, sparsity_loss = model.forward_train(images)
    assert logits.shape == (3, 5) and sparsity_loss.shape == ()
    (logits.square().sum() + sparsity_loss).backward()
    assert set(gradients(model)) == {name for name, each in model.named_parameters() if each.requires_grad}
    plain = AFMP(2, 12, **settings)
    assert shapes_of(model.forward_internals(images)) == shapes_of(plain.forward_internals(torch.randn(3, 3, 16, 16)))
    model.half()
    assert model(images.half()).dtype == torch.float16


def shapes_of(internals) -> list[torch.Size]:
    return [
        part.shape for parts in vars(internals).values() for part in (parts if isinstance(parts, list) else [parts])
    ]


@pytest.mark.parametrize("kind", ["paper", "window", "random edges"])
def test_a_model_of_the_meta_device_gets_its_values_later(kind, tmp_path):
    """Its graph, too, comes from the weights."""
    settings = {"img_size": 16, "patch_size": 4} | EVERY_KIND[kind]
    trained, images = AFMP(2, 12, **settings), torch.randn(3, 3, 16, 16)
    for assign in (False, True):
        with torch.device("meta"):
            model = AFMP(2, 12, **settings)
        with pytest.raises(AfmpError, match=r"on the meta device, which holds no values; .* model\.to_empty"):
            load_weights(model, tmp_path / "weights.pth")
        if not assign:
            model.to_empty(device="cpu")
        model.load_state_dict(trained.state_dict(), assign=assign)
        assert torch.equal(model(images), trained(images))


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_fake_tensors_give_the_shapes(kind):
    model = AFMP(2, 12, img_size=16, patch_size=4, num_classes=5, **KINDS[kind])
    with FakeTensorMode(allow_non_fake_inputs=True):
        logits, sparsity_loss = model.forward_train(torch.randn(3, 3, 16, 16))
        (logits.square().sum() + sparsity_loss).backward()
    assert logits.shape == (3, 5)


@pytest.mark.parametrize("kind", SLOW_KINDS)
def test_export_with_a_dynamic_batch(kind):
    model, images = build(kind)
    dynamic = {"images": {0: torch.export.Dim("batch", min=1)}, "return_sparsity_loss": None}
    if kind == "notebook":
        with pytest.raises(AfmpError, match="export it with a fixed batch size"):
            torch.export.export(model, (images,), dynamic_shapes={"images": dynamic["images"]})
        exported = torch.export.export(model, (images,))
        torch.testing.assert_close(exported.module()(images), model(images))
        return
    exported = torch.export.export(model, (images,), dynamic_shapes={"images": dynamic["images"]}).module()
    for batch in (images, images[:1], torch.cat([images, images])):
        torch.testing.assert_close(exported(batch), model(batch))


@pytest.mark.parametrize("compile", [torch.jit.script, lambda model: torch.jit.trace(model, torch.randn(3, 3, 16, 16))])
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused_in_one_sentence(compile):
    with pytest.raises(AfmpError, match=r"TorchScript .* cannot represent AFMP; allowed are torch.export"):
        compile(build("paper")[0])
