"""Exported models, and the page on the model in other code (docs/model.md), whose examples are run."""

import re
from importlib.util import find_spec

import pytest
import torch
from conftest import PROJECT
from PIL import Image

import afmp
from afmp import AFMP
from afmp.errors import AfmpError
from afmp.model.embedding import NO_TORCHSCRIPT
from afmp.model.random_edges import image_keys, next_keys, pseudo_random

BLOCKS = re.findall(r"^```python\n(.*?)^```", (PROJECT / "docs/model.md").read_text(), re.MULTILINE | re.DOTALL)
REFINED = {"semantics": "refined"}
HAS_ONNX = all(find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.mark.long
def test_the_examples_of_the_page_run(tmp_path, monkeypatch):
    """One after another, in a folder and a process group of one process."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/ant").mkdir(parents=True)
    for path in ("one.png", "photos/ant/one.png"):
        Image.new("RGB", (96, 64), (200, 40, 90)).save(path)
    torch.manual_seed(0)
    names: dict = {}
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for code in BLOCKS:
            assert sum(map(bool, code.splitlines())) <= 3
            if HAS_ONNX or "onnx" not in code:
                exec(compile(code, "docs/model.md", "exec"), names)
    finally:
        torch.distributed.destroy_process_group()
    if HAS_ONNX:
        exported = names["onnxruntime"].InferenceSession("model.onnx")
        assert [each.name for each in exported.get_outputs()] == ["logits"]
        assert (tmp_path / "model.onnx.data").stat().st_size > (tmp_path / "model.onnx").stat().st_size / 2
    assert names["photos"][0][0].shape == (3, 64, 64)
    assert names["settings"]["input_size"] == (1, 64, 64)
    assert [tuple(each.shape) for each in names["maps"]] == [(1, 128, 4, 4)] * 2
    answers = names["model"](names["images"][:3])
    torch.testing.assert_close(torch.as_tensor(names["logits"]), answers, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not HAS_ONNX, reason="ONNX is not installed")
@pytest.mark.long
@pytest.mark.parametrize("kind", [{}, REFINED | {"is_sparse": False}, REFINED | {"edges_per_node": 2}], ids=str)
def test_onnx_equals_pytorch(kind, tmp_path):
    """Of AFMP-Small's widths: there, optimised code of fast paths was wrong without a word."""
    import onnxruntime

    torch.manual_seed(0)
    model = AFMP(2, 512, img_size=64, patch_size=16, **kind).eval()
    images, path = torch.randn(2, 3, 64, 64), tmp_path / "model.onnx"
    dynamic = {"images": {0: torch.export.Dim("batch")}}
    torch.onnx.export(model, (images,), path, dynamic_shapes=dynamic, dynamo=True)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 5):
        images = torch.randn(count, 3, 64, 64)
        (found,) = session.run(None, {"images": images.numpy()})
        expected = model(images).detach()
        assert (torch.from_numpy(found) - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.skipif(not HAS_ONNX, reason="ONNX is not installed")
@pytest.mark.long
def test_onnx_draws_the_random_edges_of_pytorch(tmp_path):
    """Of a hash in integers that wrap around, so every bit counts. onnxruntime's sum of int32 does not wrap around."""
    import onnxruntime

    class RandomEdges(torch.nn.Module):
        def forward(self, images):
            return pseudo_random(next_keys(image_keys(images)), 16, 8)

    images, path = torch.randn(3, 3, 8, 8), tmp_path / "hash.onnx"
    torch.onnx.export(
        RandomEdges().eval(), (images,), path, dynamo=True, optimize=False
    )  # to optimise it takes ten seconds
    (found,) = onnxruntime.InferenceSession(path).run(None, {"images": images.numpy()})
    assert torch.equal(torch.from_numpy(found), RandomEdges()(images))


@pytest.mark.filterwarnings("ignore")
def test_the_old_export_to_onnx_is_refused(tmp_path):
    with pytest.raises(AfmpError, match=re.escape(NO_TORCHSCRIPT)):
        torch.onnx.export(afmp.afmp_tiny().eval(), (torch.randn(2, 3, 32, 32),), tmp_path / "model.onnx", dynamo=False)
