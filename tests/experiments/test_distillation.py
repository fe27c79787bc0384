"""The command distill: what it trains, measures and refuses."""

import shlex

import pytest
import torch
from torch.nn import functional as F

from compress_lib import data, ledger, training
from compress_lib.distillation.logits import distillation_loss
from compress_lib.experiments import distillation, quality
from compress_lib.experiments import distillation_lessons as lessons
from compress_lib.experiments import distillation_methods as methods
from compress_lib.models import zoo

pytestmark = pytest.mark.slow

SHORT = ["--student", "mlp-20", "--labels", 200, "--epochs", 2, "--seeds", 5]
CHEAP = ["--teacher", "lenet-300-100"]


def rows():
    return ledger.read("12-distillation")


@pytest.mark.parametrize("student", ["narrow-resnet-8", "mlp-20"])
def test_students_are_small(student):
    network = methods.STUDENTS[student].build()
    assert sum(p.numel() for p in network.parameters()) == {"narrow-resnet-8": 19_810, "mlp-20": 15_910}[student]
    assert sum(p.numel() for p in network.parameters()) <= 20_000
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_where_all_are_labeled_it_is_the_loss_of_the_library():
    outputs, logits, labels = torch.randn(8, 10), torch.randn(8, 10), torch.randint(10, (8,))
    settings = {"temperature": 3.0, "weight": 0.7}
    objective = methods.from_logits(None, **settings)
    found = objective(lambda images: outputs, torch.zeros(8), (labels, logits))
    torch.testing.assert_close(found, distillation_loss(outputs, logits, labels, **settings))
    labels[3:] = lessons.UNLABELED
    hard = F.cross_entropy(outputs[:3], labels[:3]) * 3 / 8
    expected = 0.7 * distillation_loss(outputs, logits, temperature=3.0) + 0.3 * hard
    torch.testing.assert_close(objective(lambda images: outputs, torch.zeros(8), (labels, logits)), expected)
    labels[:] = lessons.UNLABELED
    assert objective(lambda images: outputs, torch.zeros(8), (labels, logits)).isfinite()


def test_distill_writes_a_row_and_does_not_train_twice(call, tmp_path, monkeypatch):
    call("distill", "logits", *SHORT, *CHEAP, "--rest", "teacher", "--temperature", 2, "--weight", 0.5)
    (row,) = rows()
    assert (row["method"], row["model"], row["seed"]) == ("distillation from logits", "lenet-300-100", 5)
    expected = {"student": "mlp-20", "labels": 200, "rest": "teacher", "teacher": "lenet-300-100", "permute": "nothing"}
    expected |= {"temperature": 2.0, "weight": 0.5, "epochs": 2, "lr": 0.1, "noise": 0.0, "split": "train"}
    assert row["recipe"].items() >= expected.items()
    assert row["macs_after"] == 784 * 20 + 200 and row["details"]["params"] == 15_910
    network = methods.mlp_20()
    (path,) = (tmp_path / "work").glob("distill-*")
    network.load_state_dict(torch.load(path)["model"])
    test = data.fashion_mnist("test")
    logits, theirs = (training.predict(model, test[0]) for model in (network, zoo.load("lenet-300-100")))
    assert row["accuracy_after"] == quality.accuracy(logits, test[1]) > 0.02
    assert row["accuracy_before"] == quality.accuracy(theirs, test[1])
    assert row["details"].items() >= quality.of_logits(logits, test[1], theirs).items()
    assert row["details"]["teacher"]["accuracy"] == row["accuracy_before"]
    monkeypatch.setattr(training, "_step", None)  # whoever trains now, fails
    ledger.directory().joinpath("ledger/12-distillation.json").unlink()
    call(*shlex.split(row["command"])[3:])
    assert [each["recipe"] for each in rows()] == [row["recipe"]]
    assert rows()[0]["accuracy_after"] == row["accuracy_after"]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("labels", []),
        ("smoothing", ["--smoothing", 0.2, "--noise", 0.4]),
        ("scaled", CHEAP),
        ("virtual", CHEAP),
        ("dkd", [*CHEAP, "--beta", 2, "--permute", "others"]),
        ("logits", [*CHEAP, "--augment"]),
        ("one", ["--branches", 2]),
    ],
)
def test_each_method_trains_the_same_student_in_its_own_way(call, tmp_path, monkeypatch, method, options):
    built = []
    real = methods.mlp_20
    student = methods.Student(lambda: built.append(real()) or built[-1], maps=(), middle="relu", shared="flatten")
    monkeypatch.setitem(methods.STUDENTS, "mlp-20", student)
    starts, fit = [], training.fit
    monkeypatch.setattr(
        training, "fit", lambda model, *rest, **more: starts.append(parameters(built[0])) or fit(model, *rest, **more)
    )
    call("distill", method, *SHORT, *options)
    (row,) = rows()
    assert row["method"] == distillation.NAMED[method] and row["macs_after"] == 784 * 20 + 200
    torch.manual_seed(5)
    assert torch.equal(starts[0], parameters(real()))  # paired: the weights that the seed draws
    assert len(row["details"]["history"]) == 2
    assert row["recipe"] == distillation.complete(row["recipe"])


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(("method", "student"), [("fitnets", "mlp-20"), ("attention", "narrow-resnet-8")])
def test_features_of_a_residual_teacher(call, method, student):
    short = ["--student", student, "--labels", 200, "--epochs", 2, "--seeds", 5]
    call("distill", method, *short)
    (row,) = rows()
    assert row["recipe"]["teacher"] == "resnet-20" and len(row["details"]["history"]) == 2
    assert row["details"]["teacher"]["accuracy"] > 0.09


def test_early_exits_are_timed(call, monkeypatch):
    monkeypatch.setattr(distillation, "TIMED_IMAGES", 3)
    monkeypatch.setattr(distillation, "EXIT_ROUNDS", 1)
    call("distill", "byot", "--labels", 200, "--epochs", 1, "--seeds", 5)
    (row,) = rows()
    plain, *exits = row["details"]["exits"]
    assert plain["seconds"] > 0 and [each["threshold"] for each in exits] == list(distillation.THRESHOLDS)
    assert exits[0]["shares"] == [1, 0, 0] and exits[-1]["shares"] == [0, 0, 1]
    assert exits[-1]["accuracy"] == row["accuracy_after"]  # the deepest exit is the network of the row
    assert all(each["seconds"] > 0 and 0 <= each["accuracy"] <= 1 for each in exits)


def test_a_teacher_that_knows_the_same_labels_alone(call, tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "TEACHER", lessons.TEACHER | {"model": "lenet-300-100", "epochs": 1, "augment": False})
    seen, fit = [], training.fit
    monkeypatch.setattr(
        training,
        "fit",
        lambda model, images, labels, **rest: (
            seen.append((type(model).__name__, images, labels)) or fit(model, images, labels, **rest)
        ),
    )
    call("distill", "logits", *SHORT, "--teacher", "same-labels", "--rest", "teacher", "--noise", 0.2)
    (row,) = rows()
    (name, images, labels), (_, student_images, (student_labels, _)) = seen
    assert name == "LeNet300100" and labels.min() >= 0
    assert torch.equal(images[:200], student_images[:200]) and torch.equal(labels[:200], student_labels[:200])
    assert len(images.flatten(1).unique(dim=0)) <= 200 < len(student_images.flatten(1).unique(dim=0))
    assert row["recipe"]["trained_teacher"] == lessons.TEACHER
    assert row["details"]["teacher"]["accuracy"] != row["accuracy_before"]


def test_cheap_blocks_take_the_place_of_convolutions(call):
    call(
        "distill",
        "labels",
        "--student",
        "narrow-resnet-8",
        "--block",
        "B2",
        "--labels",
        200,
        "--epochs",
        1,
        "--seeds",
        5,
    )
    (row,) = rows()
    assert row["recipe"]["block"] == "B2" and row["details"]["params"] < 19_810


def test_settings_are_tried_out_on_held_out_images(few_images, tmp_path, monkeypatch):
    asked, real = [], data.fashion_mnist
    monkeypatch.setattr(data, "fashion_mnist", lambda split, root=None: asked.append(split) or real(split, root))
    recipe = distillation.complete({"method": "labels", "student": "mlp-20", "epochs": 2})
    found = distillation.try_out(recipe, seed=1, work=tmp_path / "work")
    assert set(asked) == {"fit", "held-out"} and not (tmp_path / "ledger").exists()
    network = methods.mlp_20()
    (path,) = (tmp_path / "work").glob("distill-*")
    network.load_state_dict(torch.load(path)["model"])
    assert found["curve"][-1] == found["accuracy"] == training.accuracy(network, *real("held-out"))
    assert len(found["curve"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labels", "--temperature", 2], "labels has no 'temperature'"),
        (["dkd", "--rest", "teacher"], "rest must be 'unused' for dkd"),
        (["labels", "--labels", 385], "labels must be from 1 to 384, got 385"),
        (["labels", "--noise", 1], "noise must be in [0, 1)"),
        (["attention", "--student", "mlp-20", *CHEAP], "attention transfer needs a student with maps"),
        (["byot", "--student", "mlp-20"], "BYOT needs a student that is deep enough"),
        (["fitnets", "--hint-epochs", 4, *CHEAP], "hint_epochs must be from 1 to 3"),
        (["attention", *CHEAP], "stage"),
        (["logits", "--temperature", 0, *CHEAP], "temperature must be positive"),
    ],
)
def test_distill_refuses_bad_arguments(call, arguments, message, tmp_path, capsys):
    labels = [] if "--labels" in arguments else ["--labels", 200]
    with pytest.raises(SystemExit):
        call("distill", *arguments, *labels, "--seeds", 0)
    assert message in capsys.readouterr().err and not (tmp_path / "ledger").exists()
