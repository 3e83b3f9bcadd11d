"""Counts of trainable parameters and of FLOPs."""

import pytest
import torch
from conftest import PROJECT
from shipped_study import SHIPPED
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from afmp import cli, records
from afmp.analysis.parameter_table import parameters_caption, parameters_table
from afmp.benchmark.parameters import count_flops, count_parameters, count_trained
from afmp.errors import AfmpError
from afmp.model.sizes import afmp_refined_small, afmp_refined_tiny, afmp_small, afmp_tiny, build_model
from afmp.study.study import resolve_study


def test_counts_are_those_of_the_paper():
    parameters = count_parameters()
    counts = {row["model"]: row["num_parameters"] for row in parameters["models"]}
    assert counts == {
        "afmp_small": 6_119_913,
        "deit_tiny": 5_543_716,
        "afmp_refined_small": 1_939_722,
        "afmp_tiny": 435_688,
        "afmp_tiny_no_top_down": 386_152,
    }
    table = parameters_table(parameters)
    assert table["num_parameters"].tolist() == list(counts.values())
    assert table["resolution"].tolist() == [224, 224, 224, 32, 32]
    assert set(table["num_classes"]) == {100}
    caption = parameters_caption(parameters)
    assert "AFMP-Small / DeiT-Tiny = 1.104. AFMP-refined-Small / DeiT-Tiny = 0.350." in caption
    flops = {row["model"]: row["flops"] for row in parameters["models"]}
    assert flops["deit_tiny"] == 2_507_020_800  # with its attention, which one kernel computes
    assert flops["afmp_tiny_no_top_down"] == flops_of_the_equations(afmp_tiny(use_top_down=False))
    assert table["flops"].tolist() == list(flops.values())
    ratio = flops["afmp_small"] / flops["deit_tiny"]
    assert f"Ratios of FLOPs: AFMP-Small / DeiT-Tiny = {ratio:.3f}." in caption and "flop\\_counter" in caption


def test_every_distinct_model_of_the_study_has_a_row():
    study = resolve_study(SHIPPED)
    models = {(model["run"], model["semantics"]): model for model in study.models}
    assert len(models) == len(study.models)
    # Their weight of the sparsity loss, or their recipe, is another one, and their model is not.
    same = {"sparse_0.3_lambda_1e-3", "sparse_0.3_lambda_1e-5", "refined_tiny"}
    assert {run for _, run in study.trainings} - {run for run, _ in models} == same
    some = [
        ("sparse_0.3", "notebook"),
        ("all_edges", "refined"),
        *((run, "timm") for run in ("vit", "mixer", "convmixer")),
    ]
    counted = count_trained([models[one] for one in some], num_classes=10)
    rows = {(row["run"], row["semantics"]): row for row in counted["models"]}
    assert list(rows) == some and {row["resolution"] for row in rows.values()} == {32}
    for (run, semantics), row in rows.items():
        model = build_model(study.runs[run], semantics=semantics, num_classes=10)
        assert row["num_parameters"] == sum(parameter.numel() for parameter in model.parameters())
    tiny = rows["all_edges", "refined"]
    assert tiny["flops"] == count_flops(afmp_refined_tiny(num_classes=10), 32)
    assert tiny["description"].startswith("All edges; AFMP-refined-Tiny: AFMP under refined, 9 layers")
    # A run may have the name of a model of the sweep.
    counted["models"][0]["run"] = "deit_tiny"
    parameters = count_parameters(trained=counted)
    table = parameters_table(parameters)
    assert table["model"].tolist()[5:] == ["deit_tiny", *(run for run, _ in some[1:])]
    assert table["num_classes"].tolist() == [100] * 5 + [10] * 5
    assert "AFMP-Small / DeiT-Tiny = 1.104." in parameters_caption(parameters)


def flops_of_the_equations(model):
    """Return 2 per multiplication and addition of the products in the equations of `paper`, for one image."""
    layers, d, h, classes = len(model.layers), 128, 64, 100
    slots, nodes = model.graph.neighbours.nbr.numel(), len(model.graph.neighbours.nbr)
    embedding = nodes * (3 * 8 * 8 + 2) * d
    of_nodes = nodes * (2 * d * d + 2 * d * h + h * h)  # W_self and W_msg, W_q and W_k, U
    of_slots = slots * ((2 * d + 2) * h + h + d)  # v, W_gate
    predictions = (layers - 1) * nodes * d * d  # the first layer has none
    return 2 * (embedding + layers * (of_nodes + of_slots) + predictions + d * classes)


class Uncounted(TorchDispatchMode):
    """Sums the elements that operations unknown to the counter read or write, whichever are more."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function._overloadpacket not in flop_registry and not function.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.elements += max((tensor.numel() for tensor in tensors), default=0)
        return result


@pytest.mark.parametrize(
    ("build", "resolution"),
    [(afmp_small, 224), (afmp_refined_small, 224), (afmp_tiny, 32)],
    ids=["small", "refined_small", "tiny"],
)
def test_what_flops_leave_out_is_little(build, resolution):
    """One operation per element would add at most a twentieth, message passing included."""
    model = build().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter, Uncounted() as uncounted:
        model(torch.zeros(1, 3, resolution, resolution))
    flops = count_flops(model, resolution)
    assert counter.get_total_flops() == flops
    assert 0 < uncounted.elements < flops / 20


def test_counts_of_an_older_release_are_read_and_have_no_flops():
    archive = PROJECT / "archive/2026-11-24-h200"
    parameters = records.read_parameters(archive / "count_parameters/parameters.json")
    table = parameters_table(parameters).to_csv(index=False)
    assert table == (archive / "aggregate/parameters.csv").read_text(encoding="utf-8")
    assert "FLOPs" not in parameters_caption(parameters)


@pytest.mark.parametrize(("arguments", "message"), [((0, 224), "num_classes is 0"), ((10, 100), "100 px")])
def test_an_error_names_the_value(arguments, message):
    with pytest.raises(AfmpError, match=message):
        count_parameters(*arguments)


def test_the_command_writes_the_file_and_prints_the_table(tmp_path, capsys):
    output = tmp_path / "parameters.json"
    assert cli.main(["parameters", "--num-classes", "10", "--output", str(output)]) == 0
    assert records.read_parameters(output)["num_classes"] == 10
    printed = capsys.readouterr().out
    assert "deit_tiny" in printed and "flops" in printed
