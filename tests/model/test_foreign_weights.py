"""Weights as other tools save them, and files made to harm: loaded with the right values, or refused in a sentence."""

import json
import os
import struct
import tracemalloc
import zipfile
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_weights import small, values

from afmp.errors import AfmpError
from afmp.model.weights import load_weights, read_about


def written(path: Path, weights, **metadata: str) -> Path:
    """Write weights by the kind of the path's ending."""
    if path.suffix == ".safetensors":
        save_file(weights, path, metadata or None)
    else:
        torch.save(weights, path)
    return path


def refusal(path: Path) -> str:
    """Return the one printable line with which a file is refused; the model stays as it was."""
    model = small(2)
    with pytest.raises(AfmpError) as caught:
        load_weights(model, path)
    assert all(torch.equal(tensor, values(small(2))[name]) for name, tensor in values(model).items())
    assert str(caught.value).startswith(str(path)) and str(caught.value).isprintable() and len(str(caught.value)) < 600
    return str(caught.value)


PREFIXES = {
    "DataParallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled in DataParallel": lambda name: f"module._orig_mod.{name}",
    "DataParallel compiled twice": lambda name: f"_orig_mod._orig_mod.module.{name}",
    "one compiled layer": lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
    "checkpointed": lambda name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."),
}


@pytest.mark.promise("foreign-weights")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("wrapper", PREFIXES)
def test_the_prefixes_of_wrappers_are_taken_off(tmp_path, wrapper, suffix):
    weights, model = values(small(1)), small(2)
    named = {PREFIXES[wrapper](name): tensor for name, tensor in weights.items()}
    load_weights(model, written(tmp_path / f"best{suffix}", named))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in values(model).items())


@pytest.mark.promise("foreign-weights")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_prefixes_do_not_make_one_model_of_two(tmp_path, suffix):
    weights = values(small(1))
    twice = weights | {"module.embed.weight": weights["embed.weight"].clone()}
    assert "contains embed.weight twice" in refusal(written(tmp_path / f"best{suffix}", twice))


@pytest.mark.promise("foreign-weights")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_other_floats_become_the_models_own(tmp_path, dtype, suffix):
    weights, model = values(small(1)), small(2)
    stored = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    load_weights(model, written(tmp_path / f"best{suffix}", stored))
    for name, tensor in values(model).items():
        assert tensor.dtype == weights[name].dtype and torch.equal(tensor, stored[name].to(tensor.dtype))


def replaced(change) -> dict:
    """Return weights in which one tensor is changed."""
    return values(small(1)) | {"readout.2.bias": change(values(small(1))["readout.2.bias"])}


KINDS = {
    "float8": (lambda bias: bias.to(torch.float8_e4m3fn), "contains torch.float8_e4m3fn"),
    "another float8": (lambda bias: bias.to(torch.float8_e5m2), "contains torch.float8_e5m2"),
    "bool": (lambda bias: bias > 0, "contains torch.bool"),
    "complex": (lambda bias: bias.to(torch.complex64), "contains torch.complex64"),
    "int8": (lambda bias: bias.to(torch.int8), "contains torch.int8"),
    "too large for the model": (lambda bias: bias.double() + 1e300, "or some too large for torch.float32"),
}
PICKLED_KINDS = {
    "sparse": (torch.Tensor.to_sparse, "contains torch.sparse_coo"),
    "sparse rows": (lambda bias: torch.ones(2, 3).to_sparse_csr(), "contains torch.sparse_csr|has shape"),
    "meta": (lambda bias: bias.to("meta"), r"contains torch\.float32 on the device meta"),
    "one number repeated": (lambda bias: torch.ones(1).expand(3), "repeats few stored numbers"),
    "one number, 2^40 times": (lambda bias: torch.ones(1).expand(2**40), r"has shape \(1099511627776,\)"),
    "quantized": (lambda bias: torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8), "contains torch.qint8"),
    "nested": (lambda bias: torch.nested.nested_tensor([bias]), "its entry 'readout.2.bias' is a nested tensor"),
    "jagged": (
        lambda bias: torch.nested.nested_tensor([bias], layout=torch.jagged),
        "is a nested tensor",
    ),
    "a dict": (lambda bias: {"bias": bias}, "its entry 'readout.2.bias' is a dict, not a dense tensor"),
}


@pytest.mark.promise("foreign-weights")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "suffix"), [*product(KINDS, [".safetensors", ".pth"]), *product(PICKLED_KINDS, [".pth"])]
)
def test_other_kinds_of_tensors_are_refused_in_one_sentence(tmp_path, kind, suffix):
    change, message = (KINDS | PICKLED_KINDS)[kind]
    path = written(tmp_path / f"best{suffix}", replaced(change))
    with pytest.raises(AfmpError, match=message):
        load_weights(small(), path)
    refusal(path)


@pytest.mark.promise("foreign-weights")
@pytest.mark.parametrize("content", ["module", "function", "entry"])
def test_pickled_code_is_refused_without_the_codes_of_a_terminal(tmp_path, content):
    things = {"module": torch.nn.DataParallel(small()), "function": torch.nn.functional.relu}
    path = tmp_path / "model.pt"
    torch.save(things.get(content, values(small()) | {"loss": torch.nn.CrossEntropyLoss()}), path)
    message = refusal(path)
    assert "it contains more than tensors (it names " in message and "\\x1b" not in message


@pytest.mark.promise("foreign-weights")
def test_a_packed_pickle_is_refused_before_it_fills_the_memory(tmp_path):
    torch.save({"readout.2.bias": torch.zeros(10_000_000)}, tmp_path / "plain.pt")
    packed = zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, packed:
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    assert (tmp_path / "packed.pt").stat().st_size < 100_000
    assert "it would unpack to 40,00" in refusal(tmp_path / "packed.pt")


def raw(path: Path, header: str | bytes, *, num_bytes: int | None = None) -> Path:
    """Write a .safetensors of this header and no tensors."""
    content = header if isinstance(header, bytes) else header.encode()
    path.write_bytes(struct.pack("<Q", len(content) if num_bytes is None else num_bytes) + content)
    return path


def with_metadata(path: Path, about: str) -> Path:
    return written(path, values(small(1)), about=about)


DEEP = "[" * 100_000
METADATA = {
    "nested": (lambda path: with_metadata(path, DEEP), "the entry 'about' of its metadata is no JSON"),
    "nested objects": (lambda path: with_metadata(path, '{"a":' * 100_000), "is no JSON"),
    "no JSON": (lambda path: with_metadata(path, "semantics: paper"), "is no JSON"),
    "a list": (lambda path: with_metadata(path, "[1, 2]"), r"is \[1, 2\], not an object"),
    "a number": (lambda path: with_metadata(path, "1000000000000"), "is 1000000000000, not an object"),
    "absurd semantics": (lambda path: with_metadata(path, json.dumps({"semantics": ["\x1b[1m"] * 9})), "trained as"),
    "nested header": (lambda path: raw(path, DEEP), "damaged, or no safetensors file"),
    "header of 2^60 bytes": (lambda path: raw(path, "{}", num_bytes=2**60), "a header of 1,152,921,504,606,846,976"),
    "header of 90 MB": (lambda path: raw(path, b" " * 90_000_000), "a header of 90,000,000 bytes, of which at most"),
    "cut header": (lambda path: raw(path, "{}", num_bytes=1000), "damaged, or no safetensors file"),
    "no tensors": (lambda path: raw(path, "{}"), "it lacks"),
    "two tensors at one place": (
        lambda path: raw(path, json.dumps({n: {"dtype": "U8", "shape": [0], "data_offsets": [0, 8]} for n in "ab"})),
        "damaged, or no safetensors file",
    ),
    "shape of 2^63": (
        lambda path: raw(path, json.dumps({"a": {"dtype": "F32", "shape": [2**63, 0], "data_offsets": [0, 0]}})),
        "it lacks|damaged",
    ),
    "a type of 6 bits": (
        lambda path: raw(path, json.dumps({"a": {"dtype": "F6_E2M3", "shape": [0], "data_offsets": [0, 0]}})),
        "it lacks|damaged",
    ),
}


@pytest.mark.promise("foreign-weights")
@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", METADATA)
def test_absurd_metadata_is_one_sentence_in_bounded_memory(tmp_path, case):
    make, message = METADATA[case]
    path = make(tmp_path / "best.safetensors")
    tracemalloc.start()
    with pytest.raises(AfmpError, match=message):
        load_weights(small(), path)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    refusal(path)


@pytest.mark.promise("foreign-weights")
def test_a_tensor_larger_than_the_memory_is_refused_by_its_shape(tmp_path):
    header = json.dumps({"embed.weight": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}})
    path = raw(tmp_path / "best.safetensors", header)
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + 2**32)  # takes no room on the disk
    assert "of another architecture" in refusal(path)


def test_weights_without_metadata_are_loaded_and_say_nothing(tmp_path):
    weights, model = values(small(1)), small(2)
    path = written(tmp_path / "best.safetensors", weights)
    load_weights(model, path)
    assert read_about(path) == {} and torch.equal(model.embed.weight, weights["embed.weight"])
    assert read_about(with_metadata(path, '{"semantics": "paper", "seed": 3}')) == {"semantics": "paper", "seed": 3}


@pytest.mark.promise("no-plain-file")
@pytest.mark.timeout(10)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_is_no_file_of_weights_is_called_so(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"link{suffix}").symlink_to("/nowhere/best")
    assert "is a pipe" in refusal(tmp_path / f"pipe{suffix}")
    assert "is a folder" in refusal(tmp_path / f"folder{suffix}")
    assert "is a broken link: /nowhere/best does not exist" in refusal(tmp_path / f"link{suffix}")


@pytest.mark.promise("permissions")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_may_not_be_read_are_not_called_damaged(powerless, suffix):
    path = written(powerless / f"best{suffix}", values(small(1)))
    path.chmod(0)
    assert "cannot be read (Permission denied)" in refusal(path)
