"""Source files: a rule compares a hash of its script and of all files that it imports."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from afmp.sources import import_closure

SCRIPTS = sorted((PROJECT / "workflow_scripts").glob("*.py"))
RULES = "".join(path.read_text() for path in sorted((PROJECT / "rules").glob("*.smk")))

# Runs the import statements of every script, one script at a time, and prints the modules that they load.
IMPORTED = """
import ast, json, sys
loaded = {}
for script in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "afmp"]:
        del sys.modules[name]
    nodes = ast.walk(ast.parse(open(script).read()))
    imports = [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(imports, []), script, "exec"), {})
    loaded[script] = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "afmp"]
print(json.dumps(loaded))
"""


def names(*starts) -> set[str]:
    return {path.relative_to(PROJECT / "afmp").with_suffix("").as_posix() for path in import_closure(*starts)}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[Path]]:
    """Files of the package that each script's import statements load."""
    command = [sys.executable, "-c", IMPORTED, *map(str, SCRIPTS)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {script: {Path(file) for file in files} for script, files in json.loads(done.stdout).items()}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_closure_of_a_script_contains_all_that_it_loads(script, loaded):
    assert loaded[str(script)] and loaded[str(script)] <= set(import_closure(script))
    assert script not in import_closure(script)


@pytest.mark.promise("ctrl-c-ends-with-a-sentence")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_where_ctrl_c_ends_it_with_a_sentence(script):
    docstring, only_import, block = ast.parse(script.read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr) and ast.unparse(only_import).startswith("from afmp.log import ")
    assert ast.unparse(block).startswith("with log_to(snakemake.log[0]")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_rule_of_a_script_compares_the_hash_of_its_closure(script):
    rules = [rule for rule in re.split(r"\n *rule\b", RULES) if f'workflow_scripts/{script.name}"' in rule]
    # A rule without outputs runs whenever it is asked for.
    made = [rule for rule in rules if re.search(r"^ *output:$", rule, re.MULTILINE)]
    assert rules and all(f'code=code("{script.name}"' in rule.split("params:")[1] for rule in made)


def test_training_does_not_depend_on_figures_or_tables():
    closure = names(PROJECT / "workflow_scripts/train.py")
    assert {"model/afmp", "training/loop", "data/dataset"} <= closure
    assert not [name for name in closure if name.startswith(("figures", "analysis"))]


def test_the_sweep_depends_on_what_runs_in_its_processes():
    closure = names(PROJECT / "workflow_scripts/benchmark_resolution.py", "afmp.benchmark.measurement")
    assert {"benchmark/measurement", "benchmark/models", "model/afmp", "machine/isolation"} <= closure
    assert 'code=code("benchmark_resolution.py", "afmp.benchmark.measurement")' in RULES


def test_the_closure_contains_modules_that_are_named_and_what_they_import():
    script = PROJECT / "workflow_scripts/plot_figure.py"
    assert "figures/parts/study_panels" not in names(script)
    assert {"figures/parts/study_panels", "analysis/statistics"} <= names(script, "afmp.figures.parts.study_panels")
