"""AFMP as a model of timm: its registry, its arguments, its folders of weights, and the kinds of its own model tests.

timm's tests/test_models.py (of its repository, before 1.0.29) was run against each model: afmp_tiny_patch8_32,
afmp_small_patch16_224, afmp_refined_tiny_patch4_32, afmp_refined_small_patch4_32, afmp_refined_small_patch16_224. All
its kinds pass except these, which do not apply. The tests here check the same on smaller models.

- test_model_inference: no weights are published on a hub: those there are come with the package.
- test_model_backward, test_model_backward_fx, of `paper`: the original notebook's first layer has a W_pred that nothing
  reads. It is in weights files and has no gradient.
- test_model_default_cfgs: for convolutional networks, whose features are images. For others, such as timm's ViT, there
  is test_model_default_cfgs_non_std.
- test_model_forward_torchscript, test_model_forward_fx_torchscript: TorchScript cannot represent AFMP.
"""

import re

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import save_for_hf
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

import afmp.timm
from afmp import AFMP
from afmp.errors import AfmpError

NAMES = tuple(afmp.timm.default_cfgs)
TINY = [name for name in NAMES if name.endswith("_32")]
SMALL = {"num_layers": 3, "d_model": 12}  # for tests in which the size does not matter


def create(name: str, **arguments) -> AFMP:
    torch.manual_seed(0)
    return timm.create_model(name, **SMALL | arguments).eval()


def images_for(model: nn.Module, count: int = 2) -> torch.Tensor:
    return torch.randn(count, *resolve_model_data_config(model)["input_size"])


def test_the_named_sizes_are_registered_with_their_settings():
    assert set(NAMES) <= set(timm.list_models("afmp_*")) and len(NAMES) == 5
    numbers = {name: sum(p.numel() for p in timm.create_model(name).parameters()) for name in NAMES}
    assert list(numbers.values()) == [435_688, 6_119_913, 816_925, 1_928_202, 1_939_722]
    for name in NAMES:
        model = create(name)
        settings = resolve_model_data_config(model)
        side = int(name.rpartition("_")[2])
        assert settings["input_size"] == (3, side, side) and settings["crop_pct"] == 1.0
        assert model.semantics == ("refined" if "refined" in name else "paper")
        assert model.state_dict()[model.default_cfg["classifier"] + ".weight"].shape == (100, 12)


def test_every_registered_model_was_run_against_the_tests_of_timm():
    """The docstring of this file names them. A new model is run against those tests, and added there."""
    named = set(re.findall(r"afmp_\w+_\d+", __doc__))
    assert named == set(NAMES) == set(timm.list_models("afmp_*"))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient_but_those_that_paper_never_reads(name):
    """What timm's test_model_backward checks."""
    model = create(name).train()
    model(images_for(model)).mean().backward()
    lacking = {key for key, parameter in model.named_parameters() if parameter.grad is None}
    unread = {"layers.0.router.W_pred.weight", "layers.0.router.W_pred.bias"}
    assert lacking == (unread if model.semantics == "paper" else set())


@pytest.mark.parametrize("name", TINY)
def test_arguments_of_timm(name):
    model = create(name, num_classes=7, img_size=(16, 24), in_chans=1, drop_rate=0.0, drop_path_rate=0.0)
    assert model(images_for(model)).shape == (2, 7)
    assert resolve_model_data_config(model)["input_size"] == (1, 16, 24)
    assert create(name, num_classes=0)(torch.randn(2, 3, 32, 32)).shape == (2, 12)
    unpooled = create(name, num_classes=0, global_pool="")
    assert unpooled(torch.randn(2, 3, 32, 32)).shape == (2, unpooled.num_patches, 12)
    with pytest.raises(AfmpError, match=r"drop_rate of afmp_.*: AFMP has no dropout"):
        create(name, drop_rate=0.1)
    with pytest.raises(AfmpError, match="global_pool is 'max': allowed are avg, ''"):
        create(name, global_pool="max")
    with pytest.raises(AfmpError, match=r"feature_cls of afmp_.* is 'fx': allowed is 'getter'"):
        create(name, features_only=True, feature_cls="fx")


@pytest.mark.parametrize("name", TINY)
def test_features_head_and_classifier(name):
    """What timm's test_model_default_cfgs_non_std checks."""
    model = create(name)
    images = images_for(model)
    logits, features = model(images), model.forward_features(images)
    before = model.forward_head(features, pre_logits=True)
    assert features.shape == (2, model.num_patches, model.num_features) and model.head_hidden_size == 12
    torch.testing.assert_close(model.forward_head(features), logits)
    torch.testing.assert_close(model.get_classifier()(before), logits)
    model.reset_classifier(5)
    assert model(images).shape == (2, 5) and model.num_classes == 5 and model.get_classifier().out_features == 5
    with pytest.raises(AfmpError, match="num_classes is -1: allowed is a whole number, 0 or more"):
        model.reset_classifier(-1)
    model.reset_classifier(0)
    torch.testing.assert_close(model(images), before)
    model.reset_classifier(5, "")
    assert model(images).shape == (2, model.num_patches, 5)
    torch.testing.assert_close(model.forward_head(features), model(images))


@pytest.mark.parametrize("name", TINY)
def test_intermediates(name):
    """What timm's test_model_forward_intermediates checks."""
    model = create(name)
    images = images_for(model)
    expected = model.forward_internals(images).states
    features, states = model.forward_intermediates(images, output_fmt="NLC")
    assert all(torch.equal(*pair) for pair in zip(states, expected, strict=True))
    torch.testing.assert_close(features, model.forward_features(images))
    (last,) = model.forward_intermediates(images, indices=[-1], intermediates_only=True)
    rows, columns = model.grid_shape
    assert torch.equal(last[:, :, 1, 2], expected[-1][:, columns + 2]) and last.shape == (2, 12, rows, columns)
    (first,) = model.forward_intermediates(images, [0], stop_early=True, intermediates_only=True, output_fmt="NLC")
    assert torch.equal(first, expected[0])
    assert model.forward_intermediates(images, 2, output_dict=True).keys() == {"image_intermediates", "image_features"}
    for indices in (0, 4, [3], [-4], []):
        with pytest.raises(AfmpError, match="the model has 3 layers"):
            model.forward_intermediates(images, indices)


@pytest.mark.parametrize("name", TINY)
def test_features_only(name):
    """What timm's test_model_forward_intermediates_features checks. Nothing in the model is without a gradient."""
    model = create(name, features_only=True, out_indices=(0, -2))
    size, outputs = model.feature_info.reduction(), model(images_for(model))
    assert model.feature_info.channels() == [12, 12] and len(outputs) == 2
    assert outputs[1].shape == (2, 12, 32 // size[1], 32 // size[1])
    states = create(name).forward_internals(images := images_for(model)).states
    torch.testing.assert_close(model(images)[1].flatten(2).mT, states[1])
    sum(output.square().sum() for output in model(images)).backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_weights_gives_the_model_back(name, tmp_path):
    trained = create(name, num_classes=7)
    save_for_hf(trained, tmp_path, model_args=SMALL, safe_serialization=True)
    images = images_for(trained)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(loaded(images), trained(images))
    other = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5, in_chans=1, img_size=64).eval()
    assert other(torch.randn(2, 1, 64, 64)).shape == (2, 5)
    assert torch.equal(other.layers[1].router.W_gate.weight, trained.layers[1].router.W_gate.weight)
    grey = torch.randn(2, 1, *images.shape[-2:])
    one_channel = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=1).eval()
    torch.testing.assert_close(one_channel(grey), trained(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", timm.list_models("afmp_*", pretrained=True))
def test_pretrained_weights_are_the_releases_of_the_package(name):
    released = afmp.load(f"{name.partition('_patch')[0]}_cifar100")
    model = timm.create_model(name, pretrained=True).eval()
    images = images_for(model)
    assert torch.equal(model(images), released(images))
    settings = resolve_model_data_config(model)
    assert settings["mean"] == pytest.approx(released.about.mean, abs=1e-4)
    assert settings["std"] == pytest.approx(released.about.std, abs=1e-4)
    released.reset_classifier(3)
    assert not hasattr(released, "about")  # which named 100 classes
    tuned = timm.create_model(name, pretrained=True, num_classes=5, img_size=16)
    assert tuned(torch.randn(2, 3, 16, 16)).shape == (2, 5)
    assert torch.equal(tuned.layers[0].router.W_gate.weight, released.layers[0].router.W_gate.weight)


@pytest.mark.parametrize("name", TINY)
def test_optimizers_of_timm(name):
    model = create(name)
    decayed, vectors = create_optimizer_v2(model, opt="adamw", lr=0.1, weight_decay=0.1).param_groups[::-1]
    assert decayed["weight_decay"] == 0.1 and vectors["weight_decay"] == 0
    grouped = param_groups_layer_decay(model, 0.1, layer_decay=0.5)
    scales = {id(parameter): group["lr_scale"] for group in grouped for parameter in group["params"]}
    parts = (model.embed, *model.layers, model.get_classifier())
    rates = [scales[id(next(each for each in part.parameters() if each.requires_grad))] for part in parts]
    assert rates == [0.0625, 0.125, 0.25, 0.5, 1]


@pytest.mark.parametrize("name", TINY)
def test_a_traced_model_gives_the_same_bits(name):
    """What timm's test_model_forward_fx checks."""
    model = create(name)
    images = images_for(model)
    options = {"leaf_modules": timm.models.get_notrace_modules(), "param_shapes_constant": True}
    options["autowrap_functions"] = timm.models.get_notrace_functions()
    with torch.inference_mode():
        last = get_graph_node_names(model, tracer_kwargs=options)[1][-1]
        traced = create_feature_extractor(model, [last], tracer_kwargs=options)
        assert torch.equal(traced(images)[last], model(images))


def test_a_checkpointing_model_gives_the_same_gradients_in_training_of_timm():
    model = create("afmp_refined_tiny_patch4_32").train()
    model.set_grad_checkpointing()
    model(images_for(model)).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
