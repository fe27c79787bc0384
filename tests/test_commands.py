"""The command line: what it writes, and what it says when it refuses."""

import itertools
import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from compress_lib import container, cost, data, ledger, training
from compress_lib.__main__ import main
from compress_lib.binary import conversion
from compress_lib.experiments import (
    baselines,
    binary_networks,
    choosing_what_to_prune,
    codebooks,
    compact_networks,
    harness,
    pruning_filters,
    pruning_weights,
    quantization,
)
from compress_lib.models import zoo
from compress_lib.pruning import surgery
from compress_lib.pruning.neurons import data_free
from compress_lib.quantization.integer import ptq

pytestmark = pytest.mark.slow


@pytest.fixture
def few_training_images(monkeypatch):
    """2,000 training images, but all 10,000 test images."""
    real = data.fashion_mnist

    def fewer(split, root=None):
        images, labels = real(split, root)
        return (images, labels) if split == "test" else (images[:2000], labels[:2000])

    monkeypatch.setattr(data, "fashion_mnist", fewer)


# What a recipe says of a training that nothing else is said about.
TRAINING = {"split": "train", "batch_size": 128, "augment": False, "precision": "fp32"}


@pytest.fixture
def few_images(few_training_images, monkeypatch):
    """Of the test images, too, only 500 are predicted, and what is timed is timed in 3 rounds: seconds, not minutes."""
    accuracy, predict = training.accuracy, training.predict
    monkeypatch.setattr(training, "predict", lambda model, images, **rest: predict(model, images[:500], **rest))
    monkeypatch.setattr(
        training, "accuracy", lambda model, images, labels, **rest: accuracy(model, images[:500], labels[:500], **rest)
    )
    monkeypatch.setattr(harness, "ROUNDS", 3)


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["compress_lib", *map(str, arguments)])
    main()


def test_train_writes_a_checkpoint_and_its_card(few_training_images, tmp_path, monkeypatch, capsys):
    call(
        monkeypatch,
        "train",
        "lenet-300-100",
        "--epochs",
        2,
        "--seed",
        3,
        "--out",
        tmp_path,
        "--work",
        tmp_path / "work",
    )
    card = json.loads((tmp_path / "lenet-300-100.json").read_text())
    assert card["seed"] == 3 and card["recipe"]["epochs"] == 2 and card["test_images"] == 10_000
    assert card["recipe"]["split"] == "train"
    assert card["command"] == "python -m compress_lib train lenet-300-100 --seed 3 --epochs 2"
    assert f"{card['accuracy']:.2%}" in capsys.readouterr().out
    assert sorted(path.suffix for path in tmp_path.glob("lenet*")) == [".json", ".safetensors"]
    monkeypatch.setattr(zoo, "CHECKPOINTS", tmp_path)  # what was written is what the zoo loads
    assert training.accuracy(zoo.load("lenet-300-100"), *data.fashion_mnist("test")) == card["accuracy"]


def test_train_on_the_fit_split_writes_to_the_cache(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    call(monkeypatch, "train", "lenet-300-100", "--split", "fit", "--seed", 3, "--epochs", 1)
    folder = baselines.directory("lenet-300-100", "fit", 3)
    assert tmp_path in folder.parents
    card = json.loads((folder / "lenet-300-100.json").read_text())
    model = zoo.load("lenet-300-100", folder)
    assert card["accuracy_held_out"] == training.accuracy(model, *data.fashion_mnist("held-out"))
    assert card["recipe"]["split"] == "fit" and "--split fit" in card["command"]
    with pytest.raises(ValueError, match=r"another recipe.*'epochs': \(1, 30\)"):
        baselines.trained("lenet-300-100", seed=3)


def test_prune_keeps_what_was_asked_for_and_writes_a_row(few_training_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    keep = ["fc1=0.1", "fc3=0.5"]
    call(monkeypatch, "prune", "lenet-300-100", "--keep", *keep, "--rounds", 2, "--epochs", 1, "--seeds", 5)
    (row,) = ledger.read("02-pruning-weights")
    assert row["seed"] == 5 and row["details"]["kept_by_layer"] == {"fc1": 23_520, "fc3": 500}
    assert row["recipe"] == TRAINING | {"keep": {"fc1": 0.1, "fc3": 0.5}, "rounds": 2, "epochs": 1, "lr": 0.02}
    assert row["macs_after"] == 23_520 + 30_000 + 500  # fc2 was not named, so it stays dense
    assert row["nbytes_before"] == zoo.card("lenet-300-100")["nbytes"]
    assert row["accuracy_before"] == pytest.approx(zoo.card("lenet-300-100")["accuracy"], abs=5e-4)
    assert "--keep fc1=0.1 fc3=0.5 --rounds 2" in row["command"]


def test_a_row_names_the_operations_that_were_not_counted(few_images):
    class Spectrum(torch.nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x.flatten(1)).abs()[:, :10]

    dense, test = zoo.load("lenet-300-100"), data.fashion_mnist("train")
    counted, not_counted = (harness.quality_and_size(dense, other, test) for other in (dense, Spectrum()))
    assert "macs_uncounted" not in counted
    assert not_counted["macs_uncounted"] == ["aten._fft_r2c"] and not_counted["macs_after"] == 0


def test_the_papers_rates_are_twelvefold():
    """papers: 12.2× and 11.9× by arithmetic."""
    for name, ratio in (("lenet-300-100", 12.2), ("lenet-5", 11.9)):
        model = zoo.build(name)
        weights = {layer: getattr(model, layer).weight.numel() for layer in pruning_weights.PAPER_KEEP[name]}
        kept = sum(round(weights[layer] * rate) for layer, rate in pruning_weights.PAPER_KEEP[name].items())
        assert round(sum(weights.values()) / kept, 1) == ratio


def test_compress_writes_a_file_and_a_row_and_decompress_reads_it(few_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    out, restored = tmp_path / "network.cnet", tmp_path / "network.safetensors"
    short = ["--rounds", 1, "--epochs", 1, "--share-epochs", 1, "--work", tmp_path / "work"]
    call(monkeypatch, "compress", "--model", "lenet-300-100", "--k", 8, "--out", out, *short)
    (row,) = ledger.read("07-deep-compression")
    assert row["nbytes_after"] == out.stat().st_size == sum(nbytes_of(layer) for layer in row["details"]["budget"])
    assert row["details"]["kept"] == {"fc1": 18_816, "fc2": 2_700, "fc3": 260}
    assert row["recipe"] == TRAINING | {
        "keep": {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26},
        "k": {"fc1": 8, "fc2": 8, "fc3": 8},
        "rounds": 1,
        "epochs": 1,
        "lr": 0.05,
        "share_epochs": 1,
        "share_lr": None,
    }
    assert list(row["details"]["stages"]) == ["pruned", "shared", "tuned"]
    assert row["details"]["entropy_bound"] <= row["nbytes_after"] < row["details"]["stages"]["tuned"]["nbytes"]
    call(monkeypatch, "decompress", out, "--out", restored)
    assert f"{out.stat().st_size:,} → {restored.stat().st_size:,} bytes" in capsys.readouterr().out
    model = zoo.build("lenet-300-100")
    model.load_state_dict(load_file(restored))
    assert training.accuracy(model, *data.fashion_mnist("test")) == row["accuracy_after"]


def test_compress_folds_the_normalisations_of_squeezenet(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    out = tmp_path / "network.cnet"
    short = ["--rounds", 1, "--epochs", 1, "--share-epochs", 1, "--share-lr", 1e-3, "--work", tmp_path / "work"]
    call(monkeypatch, "compress", "--model", "squeezenet-small", "--k", 16, "--out", out, *short)
    (row,) = ledger.read("13-squeezenet")
    assert row["variant"] == "a third of each layer kept, 16 values, 1 × 1 + 1 epochs"
    assert "--share-lr 0.001" in row["command"] and row["nbytes_after"] == out.stat().st_size
    model = container.load(out)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    weights = {name: model.get_submodule(name).weight for name in row["details"]["kept"]}
    dense = {"features.0.0", *(name for name in weights if weights[name].count_nonzero() == weights[name].numel())}
    assert dense == {"features.0.0"} and len(weights) == 17
    assert all(len(weight[weight != 0].unique()) <= 16 for weight in weights.values())


def nbytes_of(layer):
    return sum(layer[part] for part in ("codes", "indices", "codebook", "tables", "biases", "header"))


@pytest.mark.parametrize("values", [["fc1=8", "fc2"], ["many"], ["fc1=8"]])
def test_compress_refuses_values_that_are_not_for_every_layer(values, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, "compress", "--model", "lenet-300-100", "--k", *values, "--out", tmp_path / "network.cnet")
    assert "k" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_shrink_writes_a_row_and_does_not_train_twice(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    arguments = ["shrink", "vgg-small", "filters", "--epochs", 1, "--seeds", 5, "--work", tmp_path / "work"]
    call(monkeypatch, *arguments)
    (row,) = ledger.read("03-pruning-filters")
    assert (row["method"], row["seed"]) == ("filter pruning (L1)", 5)
    assert row["variant"] == "50% of the filters removed, 1 epochs"
    convolutional = TRAINING | {"augment": True, "precision": "bf16"}
    assert row["recipe"] == convolutional | {"fraction": 0.5, "epochs": 1, "lr": 0.02}
    assert 3.5 < row["nbytes_before"] / row["nbytes_after"] < 4
    assert row["details"]["accuracy_without_recovery"] < row["accuracy_after"] < row["accuracy_before"]
    monkeypatch.setattr(training, "random_crop_flip", None)  # whoever trains now, fails
    call(monkeypatch, *arguments)
    (again,) = ledger.read("03-pruning-filters")
    assert again["accuracy_after"] == row["accuracy_after"]


def test_shrink_by_slimming_records_the_scales(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    monkeypatch.setattr(pruning_filters, "SPARSE_EPOCHS", 1)
    monkeypatch.setattr(pruning_filters, "STRENGTH", 0.1)
    call(monkeypatch, "shrink", "vgg-small", "slimming", "--epochs", 1, "--seeds", 0, "--work", tmp_path)
    (row,) = ledger.read("03-pruning-filters")
    dense, penalized = row["details"]["scales"].values()
    assert (row["recipe"]["strength"], row["recipe"]["sparse_epochs"], row["recipe"]["augment"]) == (0.1, 1, True)
    assert len(dense) == len(penalized) == 288  # 16 + 16 + 32 + 32 + 3 · 64 batch-normalized channels
    assert sum(penalized) < sum(dense)


def test_shrink_merges_neurons_of_each_hidden_layer(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    arguments = ["--fraction", 0.25, "--epochs", 1, "--seeds", 0, "--work", tmp_path]
    call(monkeypatch, "shrink", "lenet-300-100", "neurons", *arguments)
    (row,) = ledger.read("03-pruning-filters")
    assert row["details"]["neurons_removed"] == {"fc1": 75, "fc2": 25}
    assert row["macs_after"] == 784 * 225 + 225 * 75 + 75 * 10
    assert row["variant"] == "25% of the neurons removed, 1 epochs"
    assert row["recipe"] == TRAINING | {"fraction": 0.25, "epochs": 1, "lr": 0.02}
    merged, _ = data_free.prune(zoo.load("lenet-300-100"), torch.zeros(1, 1, 28, 28), {"fc1": 75, "fc2": 25})
    assert row["details"]["accuracy_without_recovery"] == training.accuracy(merged, *data.fashion_mnist("test"))
    call(monkeypatch, "shrink", "lenet-300-100", "neurons-random", *arguments)
    (control,) = ledger.read("03-pruning-filters", method="neurons (random)")
    assert control["macs_after"] == row["macs_after"]
    assert control["details"]["accuracy_without_recovery"] < row["details"]["accuracy_without_recovery"]


def test_shrink_by_dropneuron_removes_what_became_zero(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    monkeypatch.setattr(pruning_filters, "NEURON_EPOCHS", 2)
    monkeypatch.setattr(pruning_filters, "NEURON_STRENGTH", 3.0)
    call(monkeypatch, "shrink", "lenet-300-100", "dropneuron", "--epochs", 1, "--seeds", 0, "--work", tmp_path)
    (row,) = ledger.read("03-pruning-filters")
    first, second = row["details"]["neurons_left"].values()
    assert (row["recipe"]["strength"], row["recipe"]["sparse_epochs"], row["recipe"]["augment"]) == (3.0, 2, False)
    assert first < 300 and second < 100
    assert row["macs_after"] == 784 * first + first * second + second * 10
    assert "fraction" not in row["command"]


def test_shrink_removes_the_blocks_that_the_probe_finds_idle(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    monkeypatch.setattr(pruning_filters, "PROBE_IMAGES", 300)
    call(monkeypatch, "shrink", "resnet-20", "layers", "--epochs", 1, "--seeds", 0, "--blocks", 3, "--work", tmp_path)
    (row,) = ledger.read("03-pruning-filters")
    probes = row["details"]["probes"]
    gains = {name: value - before for (_, before), (name, value) in itertools.pairwise(probes.items())}
    widening = {"stage2.0", "stage3.0"}  # they change the shape and cannot go
    idle = sorted((name for name in gains if name not in widening), key=gains.get)[:3]  # the first among equals
    assert set(row["details"]["removed"]) == set(idle) and row["recipe"]["blocks"] == 3
    assert row["macs_after"] < row["macs_before"] and row["nbytes_after"] < row["nbytes_before"]


@pytest.fixture
def small_criteria(few_images, tmp_path, monkeypatch):
    """The command measures two criteria and one complete method, without training; where it writes."""
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    monkeypatch.setattr(choosing_what_to_prune, "FRACTIONS", (0.5,))
    monkeypatch.setattr(choosing_what_to_prune, "IMAGES", 200)
    monkeypatch.setattr(
        choosing_what_to_prune, "RECOVERED", dict.fromkeys(choosing_what_to_prune.RECOVERED, ("none", "batch norm"))
    )
    monkeypatch.setattr(choosing_what_to_prune, "_methods", lambda: [("l1_norm", 0), ("thinet", 0)])
    monkeypatch.setattr(
        choosing_what_to_prune, "COMPLETE", {"channel_lasso": choosing_what_to_prune.COMPLETE["channel_lasso"]}
    )
    return tmp_path / "criteria.json"


def test_criteria_measures_what_is_missing_and_no_more(small_criteria, monkeypatch):
    call(monkeypatch, "criteria", "--seeds", 0)
    content = json.loads(small_criteria.read_text())
    rows = content["rows"]
    assert len(rows) == 10 and {row["experiment"] for row in rows} == {"network", "complete", "layer"}
    assert all(0 < row["accuracy"] < 0.9378 for row in rows)
    assert {row["filters"] for row in rows if row["experiment"] != "layer"} == {288 // 2}
    assert {row["filters"] for row in rows if row["experiment"] == "layer"} == {288 - 32}
    small_criteria.write_text(json.dumps(content | {"rows": rows[1:]}))
    call(monkeypatch, "criteria", "--seeds", 0)
    again = json.loads(small_criteria.read_text())["rows"]
    assert again == [*rows[1:], rows[0]]


def test_criteria_repairs_in_complete_methods_only(small_criteria, few_images):
    train = data.fashion_mnist("train")
    model = zoo.load("vgg-small")
    chosen, _ = choosing_what_to_prune.cut(model, "channel_lasso", 0, 0.5, "network", train)
    repaired, _ = choosing_what_to_prune.cut(model, "channel_lasso", 0, 0.5, "complete", train)
    original = model.get_submodule("features.3").weight
    subset = {filter.tobytes() for filter in original.detach().numpy().reshape(-1, 1, 3, 3)}
    assert {
        kernel.tobytes() for kernel in chosen.get_submodule("features.3").weight.detach().numpy().reshape(-1, 1, 3, 3)
    } <= subset
    assert not torch.equal(chosen.get_submodule("features.3").weight, repaired.get_submodule("features.3").weight)


def test_the_control_of_gal_has_its_widths_and_other_filters(few_images, monkeypatch):
    monkeypatch.setattr(choosing_what_to_prune, "_one_epoch", lambda model, smaller, *rest: smaller)
    train = data.fashion_mnist("train")
    model, image = zoo.load("vgg-small"), data.normalize(train[0][:1])
    smaller, report = surgery.remove(model, image, {"features.0": range(10), "features.14": [1, 2, 3]})
    control = choosing_what_to_prune._others_one_epoch(model, smaller, report, train[0][:10], train, 0)
    assert [p.shape for p in control.parameters()] == [p.shape for p in smaller.parameters()]
    assert not torch.equal(control.get_submodule("features.0").weight, smaller.get_submodule("features.0").weight)


def test_criteria_says_how_to_train_a_network_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="train vgg-small --seed 7 --precision bf16 --out"):
        choosing_what_to_prune.load_network(7, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune", "lenet-300-100", "--keep", "fc1"], "--keep 'fc1' is not LAYER=FRACTION"),
        (["prune", "lenet-300-100", "--keep", "fc1=0"], "the fraction must be in"),
        (["prune", "vgg-small"], "--keep is needed for vgg-small"),
        (["prune", "lenet-300-100", "--keep", "fc9=0.5"], "fc9"),
        (["shrink", "vgg-small", "layers"], "needs residual blocks"),
        (["shrink", "vgg-small", "filters", "--fraction", "1"], "fraction"),
        (["train", "lenet-5", "--data", "/nowhere"], "/nowhere"),
        (["train", "block-cnn"], "invalid choice: 'block-cnn'"),  # it has no recipe
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, message, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_data_command_says_where(capsys, monkeypatch):
    call(monkeypatch, "data")
    assert "Fashion-MNIST: /" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "options", "variant", "recipe"),
    [
        ("density", ["--k", 4, "--epochs", 1], "k 4, epochs 1", TRAINING | {"k": 4, "epochs": 1, "lr": None}),
        ("linear", ["--k", 4, "--epochs", 0], "k 4, epochs 0", {"k": 4, "epochs": 0, "split": "train"}),
        ("product", ["--k", 8, "--length", 4], "k 8, length 4", {"k": 8, "length": 4, "split": "train"}),
        (
            "response",
            ["--k", 8, "--length", 4],
            "k 8, length 4",
            {"k": 8, "length": 4, "split": "train", "images": 2000},
        ),
        ("inq", ["--bits", 5, "--epochs", 1], "bits 5, epochs 1", TRAINING | {"bits": 5, "epochs": 1, "lr": 0.02}),
        ("inq-one-shot", ["--bits", 3], "bits 3", {"bits": 3, "split": "train"}),
    ],
)
def test_share_writes_a_row_of_a_real_file(few_images, tmp_path, monkeypatch, method, options, variant, recipe):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    call(monkeypatch, "share", "lenet-300-100", method, *options, "--seeds", 5, "--work", tmp_path / "work")
    (row,) = ledger.read("06-codebooks")
    assert row["variant"] == variant and row["method"] == codebooks.NAMED[method] and row["seed"] == 5
    assert row["recipe"] == recipe
    assert row["nbytes_after"] == sum(nbytes_of(layer) for layer in row["details"]["budget"]) < row["nbytes_before"] / 4
    assert row["accuracy_after"] > 0.5
    assert (row["latency_ratio"] is not None) == (method in ("product", "response"))


@pytest.mark.parametrize(
    ("method", "options", "variant"),
    [
        ("ptq", ["--bits", 4, "--integer"], ""),
        ("qat", ["--bits", 3, "--weight-bits", 2, "--per-tensor"], ", epochs 1, images 1000, lr 0.01"),
        ("dsq", ["--bits", 2, "--lr", 0.02], ", epochs 1, images 1000, lr 0.02"),
    ],
)
def test_quantize_writes_a_row_of_a_real_file(few_images, tmp_path, monkeypatch, method, options, variant):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    arguments = ["--images", 1000, "--seeds", 5, "--work", tmp_path / "work"]
    call(monkeypatch, "quantize", "lenet-300-100", method, *options, *arguments)
    (row,) = ledger.read("05-quantization")
    weights, activations = {"ptq": (4, 4), "qat": (2, 3), "dsq": (2, 2)}[method]
    scales = "per tensor" if method == "qat" else "per channel"
    ranges = "range percentile, weight range min_max" if method == "ptq" else "range mse, weight range mse"
    assert row["variant"] == f"{scales}, weight bits {weights}, activation bits {activations}, {ranges}{variant}"
    assert row["method"] == quantization.NAMED[method] and row["seed"] == 5
    length = (
        {} if method == "ptq" else TRAINING | {"epochs": 1, "images": 1000, "lr": {"qat": 0.01, "dsq": 0.02}[method]}
    )
    assert row["recipe"] == length | {
        "weight_bits": weights,
        "activation_bits": activations,
        "per_channel": method != "qat",
        "range": "percentile" if method == "ptq" else "mse",
        "weight_range": "min_max" if method == "ptq" else "mse",
        "calibration_images": 500,
        "split": "train",
    }
    assert row["nbytes_after"] == sum(nbytes_of(layer) for layer in row["details"]["budget"])
    assert row["nbytes_after"] < row["nbytes_before"] * (weights + 0.5) / 32
    assert row["accuracy_after"] > 0.7 and row["latency_ratio"]["median"] > 0
    assert row["macs_after"] == 784 * 300 + 300 * 100 + 100 * 10
    layers = row["details"]["layers"]
    assert [layer["layer"] for layer in layers] == ["fc1", "fc2", "fc3"]
    assert {(layer["weight_bits"], layer["input_bits"]) for layer in layers} == {(weights, activations)}
    assert row["details"]["float32"] == {}
    if method == "ptq":
        once, twice = (row["details"]["integer"][rounding] for rounding in ("once", "twice"))
        assert once["share"] > 0.999
        assert [layer["largest"] for layer in twice["layers"]] == [1, 1]
        assert [layer["codes"] for layer in once["layers"]] == [3_000_000, 1_000_000]


def test_quantize_does_not_train_twice(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    work = tmp_path / "work"
    arguments = ["quantize", "lenet-300-100", "qat", "--bits", 2, "--images", 600, "--seeds", 5, "--work", work]
    call(monkeypatch, *arguments)
    (row,) = ledger.read("05-quantization")
    (checkpoint,) = work.iterdir()
    content = checkpoint.read_bytes()
    call(monkeypatch, *arguments)
    (again,) = ledger.read("05-quantization")
    assert again["accuracy_after"] == row["accuracy_after"] and checkpoint.read_bytes() == content
    call(monkeypatch, *arguments, "--range", "moving_average")  # no part of a checkpoint
    assert list(work.iterdir()) == [checkpoint] and len(ledger.read("05-quantization")) == 2


def test_the_seed_picks_the_images_that_calibrate(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    seen = []
    real = ptq.quantize
    monkeypatch.setattr(
        ptq, "quantize", lambda model, images, **rest: seen.append(images) or real(model, images, **rest)
    )
    call(monkeypatch, "quantize", "lenet-300-100", "ptq", "--bits", 2, "--seeds", 0, 1, "--images", 5)
    assert [len(images) for images in seen] == [500, 500] and not torch.equal(*seen)
    assert len({row["accuracy_after"] for row in ledger.read("05-quantization")}) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ptq", "--bits", 17], "bits must be an integer from 1 to 16, got 17"),
        (["ptq", "--range", "max"], "range must be one of"),
        (["qat", "--images", 0], "--images must be from 1 to 2,000, got 0"),
        (["dsq", "--images", 2001], "--images must be from 1 to 2,000, got 2001"),
    ],
)
def test_quantize_refuses_bad_arguments(few_images, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    with pytest.raises(SystemExit):
        call(monkeypatch, "quantize", "lenet-5", *arguments, "--work", tmp_path / "work")
    assert message in capsys.readouterr().err and not (tmp_path / "ledger").exists()


@pytest.mark.parametrize(
    ("method", "options", "variant"),
    [
        ("xnor", ["--order", "cbap", "--kernel-size", 1], "order cbap, width 8, kernel size 1"),
        ("twn", [], "order bacp, width 8, kernel size 3"),
        ("multibit", ["--bits", 3], "order bacp, width 8, kernel size 3, bits 3"),
    ],
)
def test_binarize_writes_a_row_of_a_real_file(few_images, tmp_path, monkeypatch, capsys, method, options, variant):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    arguments = ["--width", 8, "--epochs", 1, "--images", 1280, "--lr", 0.2, "--seeds", 5, "--work", tmp_path / "work"]
    call(monkeypatch, "binarize", method, *options, *arguments)
    (row,) = ledger.read("08-binary-networks")
    assert row["variant"] == f"{variant}, epochs 1, images 1280, lr 0.2"
    options = {"order": "bacp", "width": 8, "kernel_size": 3, "epochs": 1, "images": 1280, "lr": 0.2}
    options |= {"xnor": {"order": "cbap", "kernel_size": 1}, "twn": {}, "multibit": {"bits": 3}}[method]
    assert row["recipe"] == TRAINING | options
    assert (row["method"], row["model"], row["seed"]) == (binary_networks.NAMED[method], "block-cnn", 5)
    assert row["nbytes_after"] == sum(nbytes_of(layer) for layer in row["details"]["budget"]) < row["nbytes_before"]
    assert row["accuracy_before"] > 0.6 and row["accuracy_after"] > 0.12 and row["latency_ratio"]["median"] > 0
    assert row["macs_after"] == row["macs_before"] and len(row["details"]["history"]) == 1
    assert f"{row['accuracy_before']:.2%} → {row['accuracy_after']:.2%}" in capsys.readouterr().out
    assert f"binarize {method} --order" in row["command"] and "--kernel-size" in row["command"]


def test_binarize_notes_what_the_real_weights_give_where_signs_were_drawn(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    arguments = ["--width", 8, "--epochs", 1, "--images", 1280, "--lr", 0.2, "--seeds", 5, "--work", tmp_path / "work"]
    call(monkeypatch, "binarize", "binaryconnect-stochastic", *arguments)
    (row,) = ledger.read("08-binary-networks")
    trained = conversion.convert(zoo.build("block-cnn", width=8), "binaryconnect-stochastic")
    (path,) = (tmp_path / "work").glob("*stochastic*.pt")
    trained.load_state_dict(torch.load(path)["model"])
    plain = zoo.build("block-cnn", width=8)
    renamed = {
        name.replace("parametrizations.weight.original", "weight"): v for name, v in trained.state_dict().items()
    }
    plain.load_state_dict(renamed)
    assert row["details"]["accuracy_of_real_weights"] == training.accuracy(plain, *data.fashion_mnist("test"))
    call(monkeypatch, "binarize", "binaryconnect", *arguments)
    assert "accuracy_of_real_weights" not in ledger.read("08-binary-networks")[0]["details"]


def test_binarize_trains_the_network_of_floats_once_for_all(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    work = tmp_path / "work"
    arguments = ["--width", 4, "--epochs", 1, "--images", 640, "--seeds", 5, "--work", work]
    call(monkeypatch, "binarize", "bnn", *arguments)
    content = {path.name: path.read_bytes() for path in work.iterdir()}
    assert sorted(name.split("-")[2] for name in content) == ["bnn", "float"]
    call(monkeypatch, "binarize", "bwn", *arguments)
    assert {name: (work / name).read_bytes() for name in content} == content and len(list(work.iterdir())) == 3
    rows = ledger.read("08-binary-networks")
    assert len(rows) == 2 and len({row["accuracy_before"] for row in rows}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multibit", "--bits", 9], "bits must be an integer from 1 to 8, got 9"),
        (["bnn", "--images", 2001], "--images must be from 1 to 2,000, got 2001"),
        (["bnn", "--width", 0], "width must be positive and kernel_size odd, got 0 and 3"),
    ],
)
def test_binarize_refuses_bad_arguments(few_images, arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    with pytest.raises(SystemExit):
        call(monkeypatch, "binarize", "--images", 5, *arguments, "--work", tmp_path / "work")
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_timing_says_what_a_row_needs():
    timing = harness.timing(torch.nn.Linear(512, 64), torch.nn.Linear(512, 8), torch.zeros(3, 512))
    ratio = timing.pop("ratio")
    assert (ratio["batch"], ratio["threads"]) == (3, 1) and 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
    assert timing.keys() == {"seconds_before", "seconds_after"} and min(timing.values()) > 0


def channels_innermost(*networks):
    """Of the convolutions for which it makes a difference."""
    weights = [p for network in networks for p in network.parameters() if p.dim() == 4 and min(p.shape[1:]) > 1]
    (layout,) = {weight.is_contiguous(memory_format=torch.channels_last) for weight in weights}
    return layout


@pytest.fixture
def timed(monkeypatch):
    """Nothing is timed; what would be: how many images, and whether the channels are innermost."""
    seen = []

    def timing(baseline, network, images):
        seen.append((len(images), channels_innermost(baseline, network)))
        return {"ratio": {"median": 1.0, "low": 1.0, "high": 1.0, "batch": len(images), "threads": 1}}

    monkeypatch.setattr(harness, "timing", timing)
    return seen


def call_compact(monkeypatch, tmp_path, name, *options):
    """Train with little; the checkpoints that are there afterwards."""
    monkeypatch.setenv("COMPRESS_LIB_RESULTS", str(tmp_path))
    work = tmp_path / "work"
    recipe = ["--epochs", 1, "--images", 640, "--lr", 0.05, "--seeds", 5, "--work", work]
    call(monkeypatch, "compact", name, *(part for option in options for part in ("--option", option)), *recipe)
    return {path.name: path.read_bytes() for path in work.iterdir()}


@pytest.mark.parametrize(
    ("name", "options", "chapter", "method"),
    [
        ("squeezenet-small", {"squeeze_ratio": 0.25, "bypass": True, "width": 8}, "13-squeezenet", "SqueezeNet"),
        ("mobilenet-v1-small", {"alpha": 0.25, "pointwise": False}, "14-mobilenet", "MobileNetV1"),
    ],
)
def test_compact_measures_what_it_trained(
    few_images, timed, tmp_path, monkeypatch, capsys, name, options, chapter, method
):
    texts = [f"{key}={str(value).lower()}" for key, value in options.items()]
    call_compact(monkeypatch, tmp_path, name, *texts)
    (row,) = ledger.read()
    assert (row["chapter"], row["method"], row["model"], row["seed"]) == (chapter, method, "plain-small", 5)
    variant = [text.replace("_", " ").replace("=", " ") for text in texts]
    assert row["variant"] == ", ".join([*variant, "epochs 1", "images 640", "lr 0.05"])
    flags = " ".join(f"--option {text}" for text in texts)
    command = f"python -m compress_lib compact {name} {flags} --epochs 1 --images 640 --lr 0.05 --seeds 5"
    assert row["command"] == command
    details, recipe = row["details"], row["recipe"]
    length = {"epochs": 1, "images": 640, "lr": 0.05}
    assert recipe == TRAINING | length | {"architecture": name, "options": zoo.options(name) | options}
    assert len(details["history"]) == 1
    for when, architecture, chosen in (("before", "plain-small", {}), ("after", name, options)):
        (path,) = (tmp_path / "work").glob(f"{architecture}-*")
        network = zoo.build(architecture, **chosen)
        network.load_state_dict(torch.load(path)["model"])
        assert row[f"nbytes_{when}"] == cost.nbytes_on_disk(network)
        assert details[f"params_{when}"] == sum(p.numel() for p in network.parameters())
    assert row["accuracy_after"] == training.accuracy(network, *data.fashion_mnist("test"))
    assert f"{row['accuracy_after']:.2%} (plain-small {row['accuracy_before']:.2%})" in capsys.readouterr().out


def test_compact_times_small_and_large_batches_in_both_layouts(few_images, timed, tmp_path, monkeypatch):
    call_compact(monkeypatch, tmp_path, "squeezenet-small", "width=8")
    assert timed == [(1, False), (32, False), (1, True), (32, True)]
    (row,) = ledger.read()
    layouts = [(timing["layout"], timing["ratio"]["batch"]) for timing in row["details"]["latency"]]
    assert layouts == [(layout, batch) for layout in ("contiguous_format", "channels_last") for batch in (1, 32)]


def test_compact_trains_the_baseline_once_for_all(few_images, timed, tmp_path, monkeypatch):
    first = call_compact(monkeypatch, tmp_path, "plain-small", "alpha=0.25")
    assert set(first) == {"plain-small-1-640-0.05-seed5.pt", "plain-small-alpha0.25-1-640-0.05-seed5.pt"}
    monkeypatch.setattr(training, "_save", None)  # whoever trains now, fails
    assert call_compact(monkeypatch, tmp_path, "plain-small") == first
    baseline, narrow = sorted(ledger.read("14-mobilenet"), key=lambda row: row["method"], reverse=True)
    assert (baseline["method"], narrow["method"]) == ("none (dense baseline)", "full convolutions")
    assert baseline["variant"] == "epochs 1, images 640, lr 0.05"
    for quantity in ("accuracy", "nbytes", "macs"):
        assert baseline[f"{quantity}_after"] == baseline[f"{quantity}_before"] == narrow[f"{quantity}_before"]
    assert narrow["macs_after"] < narrow["macs_before"] / 8


@pytest.mark.parametrize(
    ("name", "texts", "options"),
    [
        ("squeezenet-small", ["width=32", "squeeze_ratio=0.5", "bypass=true", "batch_norm=false"],
         {"width": 32, "squeeze_ratio": 0.5, "bypass": True, "batch_norm": False}),
        ("mobilenet-v1-small", ["alpha=2", "pointwise=false"], {"alpha": 2.0, "pointwise": False}),
        ("mobilenet-v2-small", ["alpha=1", "linear_bottleneck=false"], {"linear_bottleneck": False}),
        ("plain-small", ["alpha=0.5", "alpha=1.0"], {}),
        ("shufflenet-v1-small", ["groups=8", "scale=1.0", "shuffle=false"], {"groups": 8, "shuffle": False}),
        ("shufflenet-v2-small", [], {}),
        ("xception-small", ["between=relu", "pointwise_first=true"], {"between": "relu", "pointwise_first": True}),
    ],
)  # fmt: skip
def test_compact_takes_options_of_the_kind_of_their_defaults(name, texts, options):
    parsed = compact_networks.parse_options(name, texts)
    assert parsed == options and [*map(type, parsed.values())] == [*map(type, options.values())]
    assert zoo.options(name).keys() >= options.keys()


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("squeezenet-small", "groups=3", "'groups=3' is not NAME=VALUE for squeezenet-small, which has width=64, squ"),
        ("mobilenet-v1-small", "alpha", "'alpha' is not NAME=VALUE for mobilenet-v1-small, which has alpha=1.0, poi"),
        ("mobilenet-v2-small", "linear_bottleneck=no", "the value must be true or false; mobilenet-v2-small has"),
        ("shufflenet-v1-small", "groups=3.0", "the value must be an integer"),
        ("shufflenet-v1-small", "groups=5", "groups=5 must be one of (1, 2, 3, 4, 8)"),
        ("xception-small", "width=wide", "the value must be a number"),
        ("xception-small", "between=tanh", "between='tanh' must be one of"),
        ("plain-small", "num_classes=3", "'num_classes=3' is not NAME=VALUE for plain-small, which has alpha=1.0"),
        ("plain-small", "alpha=nan", "alpha=nan must be a positive finite number"),
        ("vgg-small", "width=3", "invalid choice: 'vgg-small'"),
    ],
)  # fmt: skip
def test_compact_refuses_bad_options(few_images, name, option, message, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "compact", name, "--option", option, "--images", 640, "--work", tmp_path / "work")
    assert stopped.value.code == 2 and message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_compact_refuses_more_images_than_there_are(few_images, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, "compact", "plain-small", "--images", 2001, "--work", tmp_path / "work")
    assert "--images must be from 1 to 2,000, got 2001" in capsys.readouterr().err and not list(tmp_path.iterdir())
