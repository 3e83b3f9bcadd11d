"""Every number that a change of structure must leave equal, recorded as one JSON file of hashes and values.

    python tests/record_numbers.py before.json      # at the commit before the change
    python tests/record_numbers.py after.json       # at the commit after it, on the same machine
    diff before.json after.json                     # empty where nothing that is computed has changed

Records a small study on digits, the archived figures and tables, the parameter counts, and models' logits and
gradients. What differs between two runs of one commit (times, versions, memory) is left out. Takes some five minutes.
"""

import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas
import torch

PROJECT = Path(__file__).resolve().parent.parent
STUDY = {
    "dataset": {"source": "digits"},
    "seeds": [0, 1],
    "training": {"epochs": 3, "batch_size": 64, "device": "cpu", "visualize_every": 2},
    "studies": {
        "sparsity_level": {
            "runs": [
                {"run": "dense", "label": "Dense", "is_sparse": False},
                {"run": "sparse_0.3", "label": "Sparse 0.3"},
                {"run": "sparse_2", "label": "Sparse 2", "sparsity": 2.0},
                {"run": "window", "label": "Window", "scaffold": "window", "window_size": 2},
            ]
        },
        "top_down_refinement": {
            "runs": [
                {"run": "sparse_0.3_top_down", "label": "With top-down", "use_top_down": True},
                {"run": "sparse_0.3", "label": "Without top-down"},
            ]
        },
    },
}
# Of a result: what another run of the same code gives another value.
VOLATILE = (
    *("device", "versions", "trained_by", "wall_time_s", "finished_at", "peak_memory_mb"),
    *("checksum", "code", "files"),
)


def main(output: str) -> None:
    """Record everything into the file `output`."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        recorded = {
            "models": models(),
            "parameters": parameters(Path(folder)),
            "study": study(Path(folder) / "study"),
            "archive": archive(Path(folder) / "archive"),
        }
    Path(output).write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def sha256(content: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(content).hexdigest()


def of_tensors(*tensors) -> str:
    """One digest of tensors' types, shapes and bits."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            digest.update(f"{tensor.dtype}{list(tensor.shape)}".encode())
            # A zero has no sign: which one a sum of gradients ends with is no number of the model.
            digest.update((tensor.detach() + 0).contiguous().numpy().tobytes())
    return digest.hexdigest()


def models() -> dict:
    """Keys, shapes, logits, gradients and internals of models on one batch, in every semantics and kind of budget."""
    from afmp import AFMP, afmp_small, afmp_tiny

    found = {}
    budgets = {
        "dense": {"is_sparse": False},
        "few": {"sparsity": 0.3},
        "many": {"sparsity": 2.0},
        "small": {"batch_size": 2},
    }
    for semantics, (budget, options), top_down, dtype in itertools.product(
        ("paper", "notebook"), budgets.items(), (True, False), (torch.float32, torch.float64)
    ):
        torch.manual_seed(7)
        size = {"num_classes": 10, "img_size": (16, 24), "patch_size": 4}
        model = AFMP(3, 32, **size, semantics=semantics, use_top_down=top_down, **options).to(dtype)
        images = torch.randn(3, 3, 16, 24, dtype=dtype)
        logits, regulariser = model.forward_train(images)
        (logits.square().sum() + 1e3 * regulariser).backward()
        internals = model.forward_internals(images)
        lists = (internals.scores, internals.gates, internals.states, internals.refined_states)
        found[f"{semantics} {budget} top_down={top_down} {dtype}"] = {
            "state_dict": {name: list(value.shape) for name, value in model.state_dict().items()},
            "weights": of_tensors(*model.state_dict().values()),
            "logits": of_tensors(logits, regulariser, model(images)),
            "gradients": of_tensors(*(parameter.grad for parameter in model.parameters())),
            "internals": of_tensors(*itertools.chain.from_iterable(lists)),
        }
    for name, build in (("afmp_tiny", afmp_tiny), ("afmp_small", afmp_small)):
        torch.manual_seed(0)
        model = build()
        found[name] = {
            "state_dict": {name: list(value.shape) for name, value in model.state_dict().items()},
            "weights": of_tensors(*model.state_dict().values()),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        }
    return found


def parameters(folder: Path) -> list:
    """The parameter counts of the models that are compared."""
    command = [sys.executable, "-m", "afmp.cli", "parameters", "--output", folder / "p.json"]
    subprocess.run(command, check=True, cwd=PROJECT)
    return json.loads((folder / "p.json").read_text())["models"]


def study(folder: Path) -> dict:
    """A study on digits: hashes of weights, diagnostics and tables, and the numbers of every result."""
    folder.mkdir()
    (folder / "study.json").write_text(json.dumps(STUDY))
    snakemake("results/aggregate/summary.csv", "--configfile", folder / "study.json", directory=folder)
    found: dict = {"weights": {}, "results": {}, "diagnostics": {}, "tables": {}}
    train = folder / "results/train"
    for path in sorted(train.rglob("*.safetensors")):
        found["weights"][str(path.relative_to(train))] = sha256(path.read_bytes())
    for path in sorted(train.rglob("*.json")):
        content = {key: value for key, value in json.loads(path.read_text()).items() if key not in VOLATILE}
        if path.name.startswith("results_"):
            del content["training_history"]["time"]
            found["results"][str(path.relative_to(train))] = content
        else:
            found["diagnostics"][str(path.relative_to(train))] = sha256(json.dumps(content, sort_keys=True).encode())
    for name in ("summary", "differences"):
        table = pandas.read_csv(folder / f"results/aggregate/{name}.csv", dtype=str)
        lasting = [column for column in table if "time" not in column and "memory" not in column]
        found["tables"][name] = table[lasting].to_csv(index=False).splitlines()
    return found


def archive(folder: Path) -> dict:
    """Hashes of every file that the newest archive's figures are drawn to, and of its tables."""
    folder.mkdir()
    snakemake("figures_from_archive", directory=folder)
    drawn = folder / "results/figures_from_archive"
    # A PDF carries its date.
    files = [path for path in sorted(drawn.rglob("*")) if path.is_file() and path.suffix not in ("", ".pdf")]
    return {str(path.relative_to(drawn)): sha256(path.read_bytes()) for path in files}


def snakemake(*arguments, directory: Path) -> None:
    """Run the workflow in a folder of its own."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--directory", directory]
    subprocess.run([*command, "--snakefile", PROJECT / "Snakefile"], check=True, cwd=PROJECT)


if __name__ == "__main__":
    main(*sys.argv[1:])
