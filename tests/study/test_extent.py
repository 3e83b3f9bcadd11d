"""Studies that are valid and far too large, and names that some disk cannot hold: refused in one sentence, at once."""

import copy
import time
from dataclasses import replace

import pytest
import torch
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.model.sizes import build_model
from afmp.study.memory import num_parameters, training_bytes
from afmp.study.study import resolve_study


def changed(section: str, **values) -> dict:
    config = copy.deepcopy(SHIPPED)
    if section == "config":
        config.update(values)
    elif section == "run":
        config["studies"]["regularisation"]["runs"].append({"run": "x", "sparsity": 0.9} | values)
    else:
        config[section].update(values)
    return config


def with_runs(number: int) -> dict:
    config = changed("config", seeds=[0])
    runs = [{"run": f"r{index}", "sparsity": index / 1000} for index in range(number)]
    config["studies"]["regularisation"] |= {"runs": runs, "reference": "r0"}
    return config


HUGE = {
    # As many as fit into the largest file that is read.
    "40,000 seeds": (changed("config", seeds=list(range(40_000))), "seeds: .*,000 trainings; allowed: 5,000"),
    "three thousand runs": (with_runs(3_000), r"3,0\d\d distinct runs and \d semantics are 6,0\d\d trainings"),
    "a picture per epoch": (
        changed("training", epochs=100_000, visualize_every=1),
        "visualize_every: 1 of 100,000 epochs gives run 'dense' 100,000 pictures .* allowed: 10,000",
    ),
    "a billion epochs": (changed("training", epochs=10**9), "training/epochs: found 1000000000; allowed: .* at most"),
    "a batch of a billion": (
        changed("training", batch_size=10**9),
        "batch_size: found 1000000000; allowed: .* at most",
    ),
    "images of 100,000 px": (
        changed("dataset", image_size=10**5),
        "image_size: found 100000; allowed: .* at most 4096",
    ),
    "a patch per pixel": (
        changed("dataset", image_size=4096) | {"model": SHIPPED["model"] | {"patch_size": 1, "d_model": 8192}},
        r"run 'dense': training takes at least 2,7\d\d.* GB of memory .*, and a study may take 1,000 GB; lower",
    ),
    "many seeds of a large model": (
        changed("config", seeds=list(range(100))) | {"model": SHIPPED["model"] | {"num_layers": 64, "d_model": 8192}},
        r"run 'dense': training takes at least 5,3\d\d\.\d\d GB of memory \(13,02\d\.\d million parameters per seed\)",
    ),
    "a sweep of a million pixels": (
        changed("scalability", resolutions=[10**6]),
        "resolutions/0: found 1000000; allowed: .* at most 16384",
    ),
}


@pytest.mark.promise("huge-studies")
@pytest.mark.parametrize("case", HUGE)
def test_a_study_that_is_far_too_large_is_refused_at_once(case):
    config, message = HUGE[case]
    started = time.process_time()
    with pytest.raises(AfmpError, match=message) as caught:
        resolve_study(config)
    assert complains(caught.value, of="config: ")
    assert time.process_time() - started < 5


@pytest.mark.parametrize("semantics", ["paper", "notebook"])
@pytest.mark.parametrize("sizes", [{}, {"num_layers": 6, "d_model": 256, "use_top_down": True}, {"patch_size": 32}])
def test_the_parameters_of_a_run_are_counted_before_its_model_is_built(semantics, sizes):
    config = changed("config")
    config["model"] |= sizes
    run = resolve_study(config).runs["dense"]
    model = build_model(run, semantics=semantics, num_classes=10)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert 0.9 * counted < num_parameters(run) <= counted
    # The weights and the optimizer of two seeds, of which one trains, and no images.
    needed = training_bytes(run, seeds=2, together=1, images=0)
    assert needed >= 4 * num_parameters(run) * 5
    averaged = replace(run, training=replace(run.training, ema_decay=0.99))  # one more copy of each seed's weights
    assert training_bytes(averaged, seeds=2, together=1, images=0) == needed + 4 * num_parameters(run) * 2


@pytest.mark.parametrize(
    "name",
    ["con", "NUL", "nul.txt", "Aux", "com1", "LPT9.tar.gz", "prn", "ends.", "a..", ".", "..", "-x", "a/b", "a b", ""],
)
def test_a_name_that_some_disk_cannot_hold_is_refused(name):
    with pytest.raises(AfmpError, match=r"runs/3/run: found .*; allowed: letters, digits, .* no device of Windows"):
        resolve_study(changed("run", run=name))


@pytest.mark.parametrize("name", ["con", "nul", "com1", "lpt0"])
def test_a_figure_is_no_device_of_windows_either(name):
    config = changed("config")
    config["studies"]["regularisation"]["figure"] = name
    with pytest.raises(AfmpError, match=r"figure: found .*no device of Windows"):
        resolve_study(config)


@pytest.mark.parametrize("name", ["seed_0", "results", "console", "com10", "best.safetensors", "lock", "x.part", "a.b"])
def test_a_name_that_only_looks_like_another_file_is_allowed(name):
    assert name in resolve_study(changed("run", run=name)).runs


def test_training_says_what_memory_it_takes_before_it_starts(tmp_path, caplog, monkeypatch):
    from afmp.training import out_of_memory
    from afmp.training.run import Run

    run = Run("big", "paper", resolve_study(changed("model", d_model=2048)).runs["dense"], {0: tmp_path}, tmp_path)
    monkeypatch.setattr(out_of_memory, "host_bytes", lambda: 8e8)
    with caplog.at_level("INFO", logger="afmp"), pytest.raises(AfmpError, match=r"0\.\d+ GB .* this machine has 1 GB"):
        out_of_memory.claim_memory(run, images=10, device=torch.device("cpu"), stack_seeds=False)
    assert "big [paper]: training takes at least 0.8" in caplog.text


@pytest.mark.parametrize(("images", "warns"), [(256, True), (257, False)])
def test_training_warns_if_an_epoch_is_one_step(tmp_path, caplog, images, warns):
    from afmp.training import out_of_memory
    from afmp.training.run import Run

    run = Run("few", "paper", resolve_study(changed("training", batch_size=256)).runs["dense"], {0: tmp_path}, tmp_path)
    out_of_memory.claim_memory(run, images=images, device=torch.device("cpu"), stack_seeds=False)
    assert ("few [paper]: 256 training images are one batch" in caplog.text) == warns
