"""Random changes of config.yaml: it resolves to the study that it describes, or one line names the mistake."""

import copy
import datetime
import json
import math
import re
from dataclasses import replace
from functools import cache

import pytest
import yaml
from conftest import PROJECT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped_study import SHIPPED, complains

from afmp.errors import AfmpError
from afmp.model.sizes import build_model
from afmp.study.run_config import RunConfig, TrainingConfig
from afmp.study.study import Study, read_study, resolve_study

# Changed configurations of each of the two tests below: some, and in `make long` as many as docs/reliability.md says.
EXAMPLES = [150, pytest.param(600, marks=pytest.mark.long)]

# Values that a person or a program may write anywhere.
WORDS = [
    "", " ", "a b", "a/b", "../up", "..", ".", ".hidden", "a.", "-rf", "~", "~nobody/x", "ä", "λ = 1", "斑马",
    "x" * 300, "d\n", "t\nl", "\0", "\ud800", "\x1b[1m", "{run}", "{", "$", "$x$", r"$\nothing$", "$x", "*bold", "`",
    "|a|", "a_", "%s", "0.3", "1e-3", "1e400", "-1e3", "0x10", "1_0", "٣", "1٣e2", "nan", ".inf", "yes", "no", "true",
    "null", "None", "paper", "DENSE", "dense", "sparse_0.3", "report", "plot_x", "class", "con", "style", "__init__",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 3, 7, 16, 2**31, 2**64, 10**30, -(10**400), 0.0, -0.0, 0.3, 0.5, 1.0, 1e-320, 1e308]
NUMBERS += [math.nan, math.inf, -math.inf]
ODDITIES = [
    datetime.date(2026, 1, 31),
    datetime.datetime(2026, 1, 31),
    b"\xff",
    {1},
    (1,),
    {None: None},
    {"": 1},
    {1.5: {}},
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.integers(),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=20),
)
values = st.one_of(
    scalars,
    st.sampled_from(ODDITIES),
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)
keys = st.one_of(
    st.sampled_from([*WORDS, "d_model", "seeds", "run", "label", 3, 0.5, True, None]), st.text(max_size=10)
)


def places(value, path=()):
    """Yield the path of every value of a configuration."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def at(config, path):
    for key in path:
        config = config[key]
    return config


@st.composite
def mutated(draw):
    """The shipped configuration after one to three changes."""
    config = copy.deepcopy(SHIPPED)
    for _ in range(draw(st.integers(1, 3))):
        *parent, key = draw(st.sampled_from(list(places(config))))
        holder = at(config, parent)
        change = draw(
            st.sampled_from(
                ["delete", "replace", "scalar", "scalar", "number", "number", "swap", "insert", "repeat", "empty"]
            )
        )
        if change == "delete":
            del holder[key]
        elif change == "replace":
            holder[key] = draw(values)
        elif change == "scalar":
            holder[key] = draw(scalars)
        elif change == "number" and type(holder[key]) in (int, float):
            number = holder[key]
            forms = [
                float(number),
                str(number),
                f"{number:e}",
                number * 2,
                number / 2,
                number + 1,
                -number,
                number * 10**6,
            ]
            holder[key] = draw(st.sampled_from(forms))
        elif change == "swap":
            holder[key] = copy.deepcopy(at(config, draw(st.sampled_from(list(places(config))))))
        elif change == "insert" and isinstance(holder, dict):
            holder[draw(keys)] = draw(st.one_of(values, st.just(copy.deepcopy(holder[key]))))
        elif change == "repeat" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif change == "empty":
            holder[key] = draw(st.sampled_from([{}, [], "", [[]], [{}]]))
        if not config:
            break
    return config


def assert_means_what_it_says(study: Study, config: dict) -> None:
    """Check that every value of every run is that of its line, or else of the section, neither rounded nor guessed."""
    assert study.tensorboard is config["training"].get("tensorboard", False)
    assert study.semantics == config["semantics"] and study.seeds == [float(seed) for seed in config["seeds"]]
    for told, table in zip(study.studies, config["studies"].values(), strict=True):
        defaults = table.get("defaults", {})
        assert told["semantics"] == table.get("semantics", study.semantics)
        for member, line in zip(told["members"], table["runs"], strict=True):
            run = study.runs[member["run"]]
            idle = set() if run.model.is_sparse else {"sparsity", "lambda_sparse", "edges_per_node"}
            idle |= {"sparsity"} if run.model.edges_per_node else set()
            idle |= {"window_size"} if run.model.scaffold == "delaunay" else set()
            idle |= {"arguments"}
            if run.model.is_rival:
                found, wanted = dict(run.model.arguments), (config["model"] | defaults | line).get("arguments", {})
                assert found == {name: meaning(wanted[name], like=found.get(name)) for name in wanted}
                idle = SHIPPED["model"].keys() - {"patch_size"}
            cosine = run.training.schedule == "cosine"
            idle |= {"plateau_patience", "plateau_factor"} if cosine else {"warmup_epochs"}
            idle |= {"tensorboard"}  # of the study
            for section in ("model", "training"):
                for key in SHIPPED[section].keys() - idle:
                    found, wanted = (
                        getattr(getattr(run, section), key),
                        (SHIPPED[section] | config[section] | defaults | line)[key],
                    )
                    assert type(found) is type(SHIPPED[section][key]), key
                    assert found == meaning(wanted, like=found), key


def meaning(value, *, like):
    """Return a value as it counts where one of the type of `like` is: text that spells a number or a flag is one."""
    return {int: float, float: float, bool: lambda flag: flag in (True, "true")}.get(type(like), str)(value)


def assert_builds_small(run: RunConfig, semantics: str) -> None:
    """Build the model of a run, with sizes so small that it takes milliseconds."""
    model, training = run.model, SHIPPED["training"] | {"batch_size": min(run.training.batch_size, 64)}
    del training["tensorboard"]  # of the study
    patch = min(model.patch_size, 16)
    side = patch * min(run.dataset.image_size // model.patch_size, 4)
    small = replace(model, patch_size=patch, num_layers=min(model.num_layers, 2), d_model=min(model.d_model, 4))
    assert (
        num_patches(RunConfig(replace(run.dataset, image_size=side), small, TrainingConfig(**training)), semantics)
        == (side // patch) ** 2
    )


@cache
def num_patches(run: RunConfig, semantics: str) -> int:
    return build_model(run, semantics=semantics, num_classes=2).num_patches


def bending(examples: int) -> settings:
    """Return Hypothesis' settings: so many configurations, and the same ones in each run."""
    options = {"derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
    return settings(max_examples=examples, deadline=None, **options)


@pytest.mark.promise("changed-configurations")
@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_changed_study_resolves_to_what_it_says_or_is_refused_in_one_line(tmp_path, examples):
    resolved = []

    @bending(examples)
    @given(mutated())
    def bend(config):
        before = copy.deepcopy(config)
        try:
            study = resolve_study(config)
        except AfmpError as error:
            assert complains(error, of="config: "), str(error)
            return
        resolved.append(study)
        assert repr(config) == repr(before)
        assert_means_what_it_says(study, config)
        for run in study.runs.values():
            assert RunConfig.from_dict(json.loads(json.dumps(run.to_dict()))) == run
        for semantics, name in study.trainings:
            if not study.runs[name].model.is_rival:
                assert_builds_small(study.runs[name], semantics)
        names = [*study.runs, *(table["figure"] for table in study.studies)]
        assert all(re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,79}", name, re.ASCII) for name in names)
        assert len({name.lower() for name in study.runs}) == len(study.runs)
        # As the report and the archive write it.
        (tmp_path / "again.yaml").write_text(
            yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        assert read_study(tmp_path / "again.yaml") == study

    bend()
    assert examples // 10 < len(resolved) < examples // 2  # neither refuses nor accepts everything


TEXT = (PROJECT / "config.yaml").read_text(encoding="utf-8")
LINES = TEXT.splitlines()
# Pieces of YAML, with a meaning or without.
PIECES = [
    "\t", "  ", "\n", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "<<: *a\n", "!!binary ", "!!python/object:os.system ",
    "!!int ", "? ", "|\n", "---\n", "...\n", "%YAML 1.2\n", "#", '"', "'", "\0", "\ufeff", "2026-01-31",
    "2026-99-99", "010", "1:30", "0x1F", "1e400", "on", "~", "é",
]  # fmt: skip


@st.composite
def mistyped(draw):
    """The shipped file with one to three typing mistakes."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        number = draw(st.integers(0, len(lines) - 1))
        line = lines[number]
        column = draw(st.integers(0, len(line)))
        slip = draw(st.sampled_from(["piece", "piece", "letter", "cut", "drop", "twice", "indent", "value", "value"]))
        if slip == "piece":
            lines[number] = line[:column] + draw(st.sampled_from(PIECES)) + line[column:]
        elif slip == "letter":
            lines[number] = line[:column] + draw(st.characters(codec="utf-8")) + line[column + 1 :]
        elif slip == "cut":
            lines[number] = line[:column]
        elif slip == "drop":
            lines[number] = ""
        elif slip == "twice":
            lines.insert(number, line)
        elif slip == "indent":
            lines[number] = draw(st.sampled_from([" ", "  ", "\t"])) + line
        elif slip == "value":
            lines[number] = re.sub(r":.*", lambda _: ": " + draw(st.sampled_from(PIECES)), line)
    return "\n".join(lines)


@pytest.mark.promise("changed-configurations")
@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_mistyped_file_is_read_as_it_says_or_refused_in_one_line(tmp_path, examples):
    path = tmp_path / "config.yaml"
    resolved = []

    @bending(examples)
    @given(mistyped())
    def mistype(text):
        path.write_text(text, encoding="utf-8")
        try:
            study = read_study(path)
        except AfmpError as error:
            assert complains(error, of=f"{path}: ") or complains(error, of="config: "), str(error)
            return
        resolved.append(study)
        assert_means_what_it_says(study, yaml.safe_load(text))

    mistype()
    assert examples // 10 < len(resolved) < examples // 2
