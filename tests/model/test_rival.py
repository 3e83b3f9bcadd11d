"""Rivals: a model of timm behind the interface of AFMP, and one sentence for each that timm does not build."""

import copy
import re

import pytest
import timm
import torch
import yaml
from conftest import PROJECT
from shipped_study import SHIPPED
from training_runs import small_config

from afmp.errors import AfmpError
from afmp.model.rival import build_rival, check_rival, draws_random_numbers
from afmp.model.sizes import build_model
from afmp.model.stack import changing_tensors, hand_out_gradients, stack_models
from afmp.model.weights import load_weights
from afmp.study.study import resolve_study
from afmp.training.checkpoint import save_weights
from afmp.training.plan import seed_dropout

VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2}
RIVALS = {
    "ViT": ("timm/vit_tiny_patch16_224", VIT),
    "Mixer": ("timm/MlpMixer", {"embed_dim": 16, "num_blocks": 2}),
    "ConvMixer": ("timm/ConvMixer", {"dim": 8, "depth": 2, "kernel_size": 3}),
}


def rival_config(architecture: str, arguments: dict, **changes):
    return small_config(architecture=architecture, arguments=arguments, **changes)


def build(name: str, **changes):
    torch.manual_seed(0)
    return build_model(rival_config(*RIVALS[name], **changes), semantics="timm", num_classes=10)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_answers_as_its_model_of_timm_in_both_modes(name, images):
    rival = build(name)
    own = copy.deepcopy(rival.network)
    logits, regulariser = rival.forward_train(images)
    torch.testing.assert_close(logits[0], own.train()(images[0]), rtol=0, atol=0)
    assert regulariser.tolist() == [0.0]
    torch.testing.assert_close(rival(images)[0], own.eval()(images[0]), rtol=0, atol=0)
    assert rival(images).shape == (1, 4, 10)


def test_a_named_model_has_the_weights_that_timm_draws():
    torch.manual_seed(0)
    same = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=32, patch_size=8, **VIT)
    found = build("ViT").network.state_dict()
    assert found.keys() == same.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in same.state_dict().items())


def test_patch_size_and_image_size_reach_the_model():
    patches = [build("ViT", patch_size=size).network.patch_embed.num_patches for size in (4, 8)]
    assert patches == [64, 16]
    assert build("ConvMixer", patch_size=4).network.stem[0].kernel_size == (4, 4)


def test_only_training_changes_the_statistics_of_batch_norm(images):
    rival = build("ConvMixer")
    before = [buffer.clone() for buffer in rival.buffers()]
    rival(images)
    assert all(torch.equal(*pair) for pair in zip(before, rival.buffers(), strict=True))
    rival.forward_train(images)
    assert not any(torch.equal(*pair) for pair in zip(before, rival.buffers(), strict=True))


def test_a_batch_of_one_image_that_batch_norm_refuses_is_one_sentence(images):
    rival = build_rival(rival_config("timm/resnet18", {}), num_classes=10)
    rival.forward_train(images)
    with pytest.raises(
        AfmpError, match="a batch of 1 image, of which BatchNorm has no statistics; change training/batch_size so"
    ):
        rival.forward_train(images[:, :1])
    assert rival(images[:, :1]).shape == (1, 1, 10)


def test_dropout_draws_by_seed_and_epoch_and_in_training_only(images):
    config = rival_config("timm/vit_tiny_patch16_224", VIT | {"drop_rate": 0.5})
    rival = build_rival(config, num_classes=10)
    torch.nn.init.normal_(rival.network.head.weight)
    drawn = []
    for seed, epoch in ((0, 1), (0, 1), (0, 2), (1, 1)):
        seed_dropout(seed, epoch)
        drawn.append(rival.forward_train(images)[0])
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])
    assert torch.equal(rival(images), rival(images))


@pytest.mark.parametrize(
    ("arguments", "draws"), [({}, False), ({"drop_rate": 0.1}, True), ({"attn_drop_rate": 0.1}, True)]
)
def test_a_rival_with_dropout_is_known_to_draw_random_numbers(arguments, draws):
    assert draws_random_numbers(rival_config("timm/vit_tiny_patch16_224", VIT | arguments)) is draws


def test_a_rival_is_its_own_stack(images):
    rival = build("ConvMixer")
    stack = stack_models([rival])
    assert stack is rival and stack.num_models == 1
    stack.forward_train(images)[0].sum().backward()
    gradients = [parameter.grad for parameter in rival.parameters()]
    hand_out_gradients(stack, [rival])
    assert [parameter.grad for parameter in rival.parameters()] == gradients and gradients[0] is not None
    names = {id(tensor) for tensor in changing_tensors(stack)}
    assert names == {id(tensor) for tensor in (*rival.parameters(), *rival.buffers())}
    with pytest.raises(AfmpError, match="2 models of timm: they cannot be stacked"):
        stack_models([rival, build("ConvMixer")])


def test_trained_weights_load_with_the_statistics_of_batch_norm(images, tmp_path):
    rival, other = build("ConvMixer"), build("ConvMixer")
    rival.forward_train(images)
    save_weights(tmp_path / "best.safetensors", rival.state_dict(), metadata={"about": '{"semantics": "timm"}'})
    load_weights(other, tmp_path / "best.safetensors")
    assert torch.equal(other(images), rival(images))
    with pytest.raises(AfmpError, match="of another architecture"):
        load_weights(build("Mixer"), tmp_path / "best.safetensors")
    with pytest.raises(AfmpError, match="weights trained as 'timm', but the model is 'paper'"):
        load_weights(build_model(small_config(), semantics="paper", num_classes=10), tmp_path / "best.safetensors")


@pytest.mark.parametrize(
    "architecture",
    ["vit_tiny_patch16_224", "deit_tiny_patch16_224", "resnet18", "convnext_atto", "poolformer_s12", "densenet121"],
)
def test_models_with_and_without_patches_are_accepted(architecture):
    check_rival(rival_config(f"timm/{architecture}", {}))


@pytest.mark.parametrize(
    ("architecture", "arguments", "words"),
    [
        ("vit_tiny_patch16_22", {}, "has no model and no class of this name; similar are vit_tiny_patch16_224"),
        ("create_model", {}, "has no model and no class of this name"),
        ("vit_tiny_patch16_224", {"embed_dims": 16}, "unexpected keyword argument 'embed_dims'"),
        ("vit_tiny_patch16_224", {"embed_dim": 16, "num_heads": 3}, "dim should be divisible by num_heads"),
        ("vit_tiny_patch16_224", {"depth": "four"}, "timm refuses arguments {'depth': 'four'}"),
        ("vit_tiny_patch16_224", {"global_pool": ""}, "gives (2, 17, 10) for 2 images and 10 classes"),
        ("mixer_s32_224", {}, "the name of a class in timm.models, which takes each of its arguments (timm/MlpMixer"),
        ("inception_v3", {}, "Kernel size can't be greater than actual input size"),
        ("FeatureListNet", {}, "unexpected keyword argument 'num_classes'"),
    ],
)
def test_what_timm_does_not_build_is_refused_in_one_sentence(architecture, arguments, words):
    with pytest.raises(AfmpError) as refused:
        check_rival(rival_config(f"timm/{architecture}", arguments))
    said = str(refused.value)
    assert said.startswith(f"config: architecture 'timm/{architecture}': ") and words in said
    assert said.endswith(".") and "\n" not in said


def test_the_lines_on_the_page_are_rivals_that_timm_builds():
    page = (PROJECT / "docs/your-own-study.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "timm/" in block]
    study = resolve_study(copy.deepcopy(SHIPPED) | {"studies": yaml.safe_load(block)})
    assert [member["run"] for member in study.studies[0]["members"]][1:] == ["my_vit", "my_mixer", "my_convmixer"]
    assert [check_rival(study.runs[run]) > 100_000 for semantics, run in study.trainings if semantics == "timm"] == [
        True
    ] * 3


def test_training_says_the_sentence_of_the_check():
    config = rival_config("timm/vit_tiny_patch16_224", {"embed_dims": 16})
    said = []
    for build_it in (check_rival, lambda config: build_model(config, semantics="timm", num_classes=10)):
        with pytest.raises(AfmpError) as refused:
            build_it(config)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_rival_that_no_machine_can_train_is_refused_at_once():
    arguments = {"embed_dim": 8192, "num_heads": 8}
    check_rival(rival_config("timm/vit_tiny_patch16_224", arguments | {"depth": 40}))
    with pytest.raises(
        AfmpError, match=r"'timm/vit_tiny_patch16_224': its 80,\d\d\d million parameters take at least 1,"
    ):
        check_rival(rival_config("timm/vit_tiny_patch16_224", arguments | {"depth": 100}))


def test_weights_of_other_classes_start_a_training_without_their_classifier(tmp_path):
    trained, path = build("ViT"), tmp_path / "best.pth"
    torch.save(trained.state_dict(), path)
    model = build_model(rival_config(*RIVALS["ViT"]), semantics="timm", num_classes=5)
    own = model.network.head.weight.clone()
    load_weights(model, path, head=False)
    assert torch.equal(model.network.head.weight, own)
    assert torch.equal(model.network.blocks[0].mlp.fc1.weight, trained.network.blocks[0].mlp.fc1.weight)
