"""The command distill-tables: which settings a table has, how they are chosen, and that nothing is measured twice."""

import json

import pytest

from compress_lib import ledger
from compress_lib.experiments import distillation, distillation_repair
from compress_lib.experiments import distillation_tables as tables
from compress_lib.models import zoo
from compress_lib.models.resnet import ResNet

SETTINGS = {name: list(settings()) for name, (settings, _) in tables.TABLES.items()}


def of(table, **given):
    """The settings of a table that have these in what is given."""
    return [each for each in SETTINGS[table] if each.given.items() >= given.items()]


@pytest.mark.parametrize("table", [name for name in tables.TABLES if name not in ("exits", "moonshine")])
def test_each_setting_has_four_trials_and_no_two_are_alike(table):
    recipes = []
    for setting in SETTINGS[table]:
        trials = setting.trials()
        assert len(trials) == 4 and all(trial not in trials[:i] for i, trial in enumerate(trials))
        recipes.append(setting.recipe(trials[0]))
    assert all(recipe not in recipes[:i] for i, recipe in enumerate(recipes))


def test_what_is_given_is_measured_and_the_rest_is_chosen():
    (setting,) = of("labels", student="mlp-20", method="smoothing", labels=300)
    trials = setting.trials()
    assert {trial["labels"] for trial in trials} == {tables.TUNED_AT}
    recipe = setting.recipe(trials[-1])
    assert recipe["labels"] == 300 and recipe["epochs"] == 10
    assert all(recipe[key] == trials[-1][key] for key in ("smoothing", "lr"))


def test_controls_have_the_settings_of_what_they_control():
    for labels in (3_000, 60_000):
        (controlled,) = [
            each for each in of("labels", student="mlp-20", method="logits", labels=labels) if "rest" not in each.given
        ]
        for control in of("controls", student="mlp-20", labels=labels):
            assert control.trials() == controlled.trials()
            chosen = control.recipe(control.trials()[1])
            expected = controlled.recipe(controlled.trials()[1])
            assert chosen == expected | control.given
    assert {each.given["method"] for each in SETTINGS["controls"]} == {"virtual", "scaled", "logits"}


def test_temperatures_are_compared_at_the_learning_rate_that_was_chosen():
    settings = of("temperature", student="mlp-20")
    assert {(each.given["temperature"], each.given["weight"]) for each in settings} == {
        (temperature, weight) for temperature in tables.TEMPERATURES for weight in tables.WEIGHTS
    }
    trials = settings[0].trials()
    assert all(each.trials() == trials for each in settings)
    (recipe,) = {json.dumps(each.recipe(trials[1]) | {"temperature": 0, "weight": 0}) for each in settings}
    assert json.loads(recipe)["lr"] == trials[1]["lr"] == 0.2


def test_networks_of_the_tables_exist():
    assert {each.given["block"] for each in SETTINGS["moonshine"]} == set(tables.BLOCKS)
    assert all(len(each.trials()) == 1 for name in ("exits", "moonshine") for each in SETTINGS[name])
    assert isinstance(zoo.build(tables.LARGE["student"]), ResNet) and tables.WORSE in zoo.NAMES
    assert zoo.card(tables.WORSE)["accuracy"] < zoo.card(distillation.LARGE)["accuracy"] - 0.03


@pytest.mark.slow
def test_a_table_is_chosen_and_measured_once(call, tmp_path, monkeypatch):
    student = {"student": "mlp-20", "labels": 200, "epochs": 1}
    settings = [
        tables.Setting(student | {"method": "labels"}),
        tables.Setting(student | {"method": "smoothing"}),
        tables.Setting({"network": "weights", "source": "labels"}, command=distillation_repair),
    ]
    short = distillation_repair.NETWORKS["weights"] | {"rounds": 1, "epochs": 1}
    monkeypatch.setitem(distillation_repair.NETWORKS, "weights", short)
    monkeypatch.setitem(tables.TABLES, "noise", (lambda: iter(settings), (0, 1)))
    call("distill-tables", "noise")
    rows, trials = ledger.read("12-distillation"), tables.trials()
    assert len(rows) == 6 and len(trials) == 12
    assert {trial["recipe"]["split"] for trial in trials} == {"fit"} and {trial["seed"] for trial in trials} == {100}
    for setting in settings:
        of_setting = [
            each["accuracy"]
            for trial in setting.trials()
            for each in trials
            if each["recipe"] == trial | {"split": "fit"}
        ]
        best = setting.trials()[of_setting.index(max(of_setting))]
        assert [seed for recipe, seed in tables.measured() if recipe == setting.recipe(best)] == [0, 1]
    path = tmp_path / "ledger" / "12-distillation.json"
    path.write_text(json.dumps(rows[1:]))
    made = []
    for command in (distillation, distillation_repair):
        monkeypatch.setattr(command, "try_out", None)
        real = command.measure
        monkeypatch.setattr(
            command, "measure", lambda recipe, real=real, **rest: made.append(recipe) or real(recipe, **rest)
        )
    call("distill-tables", "noise")
    assert made == [rows[0]["recipe"]] and len(ledger.read("12-distillation")) == 6
    call("distill-tables", "noise", "--seeds", 0)
    assert len(made) == 1


def test_a_training_that_diverges_is_not_chosen_and_stops_nothing(few_images, tmp_path, monkeypatch):
    setting = tables.Setting({"student": "mlp-20", "method": "labels", "labels": 200, "epochs": 1})

    def try_out(recipe, **_):
        if recipe["lr"] < 0.2:
            raise FloatingPointError("the loss is nan")
        return {"accuracy": 0.1}

    monkeypatch.setattr(distillation, "try_out", try_out)
    tuning = tables.Tuning(tmp_path)
    assert tuning.best(setting)["lr"] == 0.2
    assert [trial["accuracy"] for trial in tables.trials()] == [0, 0, 0, 0.1]
    assert tables.trials()[0]["diverged"] == "the loss is nan"
