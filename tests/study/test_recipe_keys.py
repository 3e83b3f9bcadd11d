"""The keys of a run's recipe: their defaults, their mistakes, and which of them have an effect."""

import pytest
import yaml
from conftest import PROJECT

from afmp.errors import AfmpError
from afmp.study.run_config import RunConfig
from afmp.study.study import resolve_study

STRONG = {
    "schedule": "cosine", "warmup_epochs": 5, "label_smoothing": 0.1, "mixup_alpha": 0.8, "cutmix_alpha": 1,
    "erasing_probability": 0.25, "ema_decay": 0.999, "clip_norm": 1, "decay_vectors": False,
}  # fmt: skip


def study_of(*lines, **training) -> dict:
    """Return a configuration with one study of these lines; `training` replaces keys of that section."""
    config = yaml.safe_load((PROJECT / "config.yaml").read_text())
    config["training"] |= training
    table = config["studies"]["regularisation"] | {"runs": list(lines), "reference": lines[0]["run"]}
    return config | {"studies": {"recipe": table}}


def test_a_configuration_without_the_keys_has_the_recipe_of_the_original_notebook():
    config = study_of({"run": "one"})
    shipped = resolve_study(config).runs["one"]
    for key in STRONG:
        del config["training"][key]
    assert resolve_study(config).runs["one"] == shipped
    assert not STRONG.keys() & shipped.to_dict()["training"].keys()  # so no older result changes


def test_a_line_of_a_study_may_have_its_own_recipe():
    run = resolve_study(study_of({"run": "one"}, {"run": "strong"} | STRONG)).runs["strong"]
    assert {key: getattr(run.training, key) for key in STRONG} == STRONG
    assert isinstance(run.training.cutmix_alpha, float) and isinstance(run.training.clip_norm, float)
    assert RunConfig.from_dict(run.to_dict()) == run


def test_numbers_of_a_recipe_may_be_text():
    written = {key: value if key == "schedule" else str(value).lower() for key, value in STRONG.items()}
    assert resolve_study(study_of({"run": "one"} | written)) == resolve_study(study_of({"run": "one"} | STRONG))


@pytest.mark.parametrize(
    ("schedule", "key", "value"),
    [("plateau", "warmup_epochs", 3), ("cosine", "plateau_patience", 1), ("cosine", "plateau_factor", 0.5)],
)
def test_keys_of_the_other_schedule_have_no_effect(schedule, key, value):
    config = study_of({"run": "one", "schedule": schedule}, {"run": "other", "schedule": schedule, key: value})
    with pytest.raises(AfmpError, match="runs/1/run: 'other' and 'one' of this study are the same run"):
        resolve_study(config)


@pytest.mark.parametrize("key", STRONG)
def test_every_other_key_makes_another_run(key):
    base = {"schedule": "cosine"} if key == "warmup_epochs" else {}
    runs = resolve_study(study_of({"run": "one"} | base, {"run": "other"} | base | {key: STRONG[key]})).runs
    assert runs["one"] != runs["other"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "step"}, "schedule: found 'step'; allowed: plateau, cosine"),
        ({"warmup_epochs": -1}, "warmup_epochs: found -1; allowed: a whole number, at least 0"),
        ({"label_smoothing": 1}, "label_smoothing: found 1; allowed: a number, at least 0, less than 1"),
        ({"ema_decay": 1.0}, "ema_decay: found 1.0; allowed: a number, at least 0, less than 1"),
        ({"erasing_probability": 1.5}, "erasing_probability: found 1.5; allowed: a number, at least 0, at most 1"),
        ({"mixup_alpha": -0.5}, "mixup_alpha: found -0.5; allowed: a number, at least 0"),
        ({"decay_vectors": 3}, "decay_vectors: found 3; allowed: true or false"),
        ({"label_smothing": 0.1}, "label_smothing: unknown key .*did you mean 'label_smoothing'"),
    ],
)
def test_a_mistake_in_a_recipe_has_its_message(changes, message):
    with pytest.raises(AfmpError, match=rf"^config: run 'one', studies/recipe/runs/0/{message}"):
        resolve_study(study_of({"run": "one"} | changes))


def test_a_warm_up_ends_before_the_last_epoch():
    warm = {"run": "one", "schedule": "cosine", "warmup_epochs": 100}
    with pytest.raises(
        AfmpError,
        match=r"^config: run 'one', studies/recipe/runs/0/warmup_epochs: 100, but training/epochs is 100; "
        "allowed with schedule 'cosine': fewer than epochs",
    ):
        resolve_study(study_of(warm))
    with pytest.raises(AfmpError, match=r"^config: training/warmup_epochs: 9, but studies/recipe/runs/0/epochs is 9"):
        resolve_study(study_of({"run": "one", "epochs": 9}, schedule="cosine", warmup_epochs=9))
    resolve_study(study_of(warm | {"epochs": 101}))
    resolve_study(study_of(warm | {"schedule": "plateau"}))
