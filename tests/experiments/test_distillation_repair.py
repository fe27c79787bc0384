"""The command repair: the networks of earlier chapters, and what they are recovered from."""

import shlex

import pytest
import torch

from compress_lib import data, ledger, training
from compress_lib.distillation.logits import distillation_loss
from compress_lib.experiments import binary_networks, harness, pruning_weights
from compress_lib.experiments import distillation_repair as repair
from compress_lib.models import zoo
from compress_lib.quantization.integer import qat

pytestmark = pytest.mark.slow


@pytest.fixture
def small(monkeypatch):
    """The networks of the command, with less training, and XNOR-Net with fewer channels."""
    changes = {"xnor": {"width": 8, "images": 256, "epochs": 1}, "weights": {"rounds": 1, "epochs": 1}}
    changes |= {"2-bit": {"images": 256}, "filters": {"epochs": 1}}
    for name, change in changes.items():
        monkeypatch.setitem(repair.NETWORKS, name, repair.NETWORKS[name] | change)


@pytest.mark.parametrize(
    ("network", "source"),
    [("filters", "teacher"), ("filters", "unlabeled"), ("2-bit", "unlabeled"), ("xnor", "teacher"),
     ("weights", "labels"), ("weights", "teacher")],
)  # fmt: skip
def test_repair_writes_a_row_and_its_command_gives_it_again(call, small, network, source):
    call("repair", network, source, "--seeds", 5)
    (row,) = ledger.read("12-distillation")
    defaults = repair.NETWORKS[network]
    assert (row["method"], row["model"], row["seed"]) == (repair.SOURCES[source], defaults["model"], 5)
    assert row["recipe"].items() >= {"network": network, "source": source, **defaults}.items()
    assert ("temperature" in row["recipe"], "weight" in row["recipe"]) == (source != "labels", source == "teacher")
    smaller = {"filters": 3.5, "2-bit": 10, "xnor": 4, "weights": 3}[network]
    assert row["nbytes_after"] < row["nbytes_before"] / smaller
    assert row["macs_after"] == {"weights": 784 * 24 + 2700 + 260}.get(network, row["macs_after"])
    assert set(row["details"]) == {"calibration_error", "agreement", "worst_classes"}
    call(*shlex.split(row["command"])[3:])
    (again,) = ledger.read("12-distillation")
    assert again["recipe"] == row["recipe"] and again["accuracy_after"] == row["accuracy_after"]


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("source", list(repair.SOURCES))
def test_what_the_training_compares_with(few_images, tmp_path, source, augment):
    images, labels = data.fashion_mnist("fit")
    dense = zoo.load("lenet-300-100")
    recipe = {"source": source, "split": "fit", "temperature": 3.0, "weight": 0.7}
    if source != "teacher":
        del recipe["weight"]
    run = repair.Run(recipe, 0, tmp_path, images, labels, images)
    targets, objective = run.lesson(dense, None if augment else "all")
    batch = training.as_input(images[:16])
    outputs = torch.randn(16, 10)
    theirs = dense(batch).detach()
    expected = {
        "labels": torch.nn.functional.cross_entropy(outputs, labels[:16]),
        "teacher": distillation_loss(outputs, theirs, labels[:16], temperature=3.0, weight=0.7),
        "unlabeled": distillation_loss(outputs, theirs, temperature=3.0),
    }[source]
    given = tuple(part[:16] for part in targets) if isinstance(targets, tuple) else targets[:16]
    torch.testing.assert_close(objective(lambda _: outputs, batch, given), expected)
    if source == "unlabeled":
        assert not any(torch.equal(part, labels) for part in (targets if isinstance(targets, tuple) else [targets]))


def test_from_labels_it_is_the_network_of_its_chapter(call, small, few_images):
    """The same accuracy in the row of the earlier command and in that of this one."""
    call("repair", "xnor", "labels", "--seeds", 5)
    call("repair", "weights", "labels", "--seeds", 5)
    call("repair", "2-bit", "labels", "--seeds", 5)
    rows = {row["recipe"]["network"]: row for row in ledger.read("12-distillation")}
    options = {"order": "bacp", "bits": 2, "width": 8, "kernel_size": 3}
    work = ledger.directory() / "others"
    length = {"epochs": 1, "images": 256, "lr": 0.2}
    xnor = binary_networks.measure("xnor", **options, **length, work=work, data=None, seed=5)
    keep = pruning_weights.PAPER_KEEP["lenet-300-100"]
    weights = pruning_weights.measure("lenet-300-100", keep, 1, 1, 0.02, 5)
    fields = ("accuracy_before", "accuracy_after", "nbytes_before", "nbytes_after", "macs_after")
    for name, row in (("xnor", xnor), ("weights", weights)):
        assert {key: rows[name][key] for key in fields} == {key: row[key] for key in fields}
    images, labels = harness.draw(data.fashion_mnist("train"), 256, 5)
    settings = {"weight_bits": 2, "activation_bits": 2, "range": "mse", "weight_range": "mse"}
    deployed, _ = qat.train(zoo.load("vgg-small"), images, labels, epochs=1, seed=5, **settings)
    expected = training.accuracy(deployed, *data.fashion_mnist("test"))
    assert rows["2-bit"]["accuracy_after"] == pytest.approx(expected)


def test_settings_are_tried_out_on_held_out_images(few_images, small, tmp_path, monkeypatch):
    asked, real = [], data.fashion_mnist
    monkeypatch.setattr(data, "fashion_mnist", lambda split, root=None: asked.append(split) or real(split, root))
    recipe = repair.complete({"network": "weights", "source": "teacher"})
    found = repair.try_out(recipe, seed=1, work=tmp_path / "work")
    assert set(asked) == {"fit", "held-out"} and 0.5 < found["accuracy"] <= 1
    (path,) = (tmp_path / "work").iterdir()
    assert "fit" in path.name and len(torch.load(path)) == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filters", "labels", "--temperature", 2], "filters from labels has no 'temperature'"),
        (["filters", "labels", "--images", 100], "filters from labels has no 'images'"),
        (["xnor", "unlabeled", "--weight", 0.5], "xnor from unlabeled has no 'weight'"),
        (["2-bit", "labels", "--images", 385], "--images must be from 1 to 384, got 385"),
        (["weights", "teacher", "--weight", 2], "weight must be in [0, 1]"),
    ],
)
def test_repair_refuses_bad_arguments(call, arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call("repair", *arguments, "--seeds", 0)
    assert message in capsys.readouterr().err and not (tmp_path / "ledger").exists()
