"""Prune by every criterion, beside random choices, and measure four ways of recovery: the tables of chapter 04.

Three experiments on vgg-small. "network": half of the filters of every convolution go, in independently trained
networks, one per seed. "complete": the same with methods that choose and repair in one, as their papers have them; GAL
finds out by itself how many filters go. "layer": a growing fraction of one layer goes, in the first of these networks.
What is measured goes to ``results/criteria.json`` after each step; a run that was interrupted goes on where it stopped.

The network of seed 0 is in the zoo. The others come from ``python -m compress_lib train vgg-small --seed N --precision
bf16 --out WORK/vgg-small-seedN``.
"""

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from compress_lib import data, files, ledger, training
from compress_lib.experiments import harness
from compress_lib.models import zoo
from compress_lib.network.batch_norm import recalibrate_batch_norm
from compress_lib.progress import progress_bar
from compress_lib.pruning import criteria, surgery
from compress_lib.pruning.channels import channel_lasso, dcp, filters, gal, reconstruction, thinet
from compress_lib.report import Report

COMMAND = "criteria"

LAYER = "features.14"  # 64 filters in the middle of the network
FRACTIONS = (0.25, 0.5, 0.625, 0.75, 0.875)
DRAWS = 3  # random choices for each network
IMAGES = 1_000  # of the training set, for criteria that look at images, and for the recovery without training
GAL: dict[str, Any] = {"penalty": 0.1, "epochs": 2, "lr": 0.01}  # GAL is a training, so it gets more images:
GAL_IMAGES = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="the networks")
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory with the networks")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    train, test = harness.fashion_mnist(arguments.data)
    networks = {seed: load_network(seed, arguments.work) for seed in arguments.seeds}
    tasks: list[tuple] = [("network", seed, method, draw, 0.5) for seed in networks for method, draw in _methods()]
    tasks += [
        ("complete", seed, method, 0, None if method == "gal" else 0.5) for seed in networks for method in COMPLETE
    ]
    first = arguments.seeds[0]
    tasks += [("layer", first, method, draw, part) for part in FRACTIONS for method, draw in _methods()]
    results = _Results("python -m compress_lib criteria --seeds " + " ".join(map(str, arguments.seeds)))
    for experiment, seed, method, draw, fraction in progress_bar(iterable=tasks, unit="cut"):
        key = (experiment, seed, method, draw, fraction)
        missing = [recovery for recovery in RECOVERED[experiment] if (*key, recovery) not in results]
        if missing:
            results.add(key, measure(networks[seed], method, draw, fraction, missing, experiment, train, test))


def load_network(seed: int, work: Path) -> nn.Module:
    """The vgg-small that was trained with this seed.

    Raises
    ------
    ValueError
        If it is not there, with the command that trains it.
    """
    if seed == 0:
        return zoo.load("vgg-small")
    folder = work / f"vgg-small-seed{seed}"
    path = folder / "vgg-small.safetensors"
    if not path.exists():
        command = f"python -m compress_lib train vgg-small --seed {seed} --precision bf16 --out {folder}"
        raise ValueError(f"the network of seed {seed} is not in {path}; train it first: {command}")
    model = zoo.build("vgg-small")
    model.load_state_dict(load_file(path))
    return model.eval()


def cut(
    model: nn.Module, method: str, draw: int, fraction: float | None, experiment: str, train: harness.Images
) -> tuple[nn.Module, Report]:
    """The network after the cut, and the surgeon's report.

    Parameters
    ----------
    model : vgg-small.
    method : in the experiment "complete" one of `COMPLETE`; in the others a name in ``criteria.ALL``, or "thinet" or
        "channel_lasso", which then choose only and repair nothing.
    draw : seed of the random choice, and of the images that criteria look at.
    fraction : to remove, of every convolution or of `LAYER`; None for GAL.
    experiment : "network", "complete" or "layer".
    train : images and labels.
    """
    images, labels = (part[draw * IMAGES : (draw + 1) * IMAGES] for part in train)
    image = data.normalize(images[:1])
    # The hidden linear layer stays whole: it has no normalization and no maps, which some criteria need.
    convolutions = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    fractions: dict[str, Any] = dict.fromkeys([LAYER] if experiment == "layer" else convolutions, fraction)
    if experiment == "complete":
        return COMPLETE[method](model, image, fractions, images, labels, train)
    if method == "thinet":
        return thinet.prune(model, image, fractions, images, rescale=False)
    if method == "channel_lasso":
        return channel_lasso.prune(model, image, fractions, images, reconstruct=False)
    torch.manual_seed(draw)
    return filters.prune(model, image, fractions, criterion=criteria.ALL[method], data=(images, labels))


def _thinet(model, image, fractions, images, labels, train):
    return thinet.prune(model, image, fractions, images)


def _channel_lasso(model, image, fractions, images, labels, train):
    return channel_lasso.prune(model, image, fractions, images)


def _dcp(model, image, fractions, images, labels, train, weight=1.0):
    return dcp.prune(model, image, fractions, images, labels, weight=weight)


def _gal(model, image, fractions, images, labels, train):
    return gal.prune(model, image, train[0][:GAL_IMAGES], layers=list(fractions), **GAL)


COMPLETE: dict[str, Callable] = {
    "thinet": _thinet,
    "channel_lasso": _channel_lasso,
    "dcp": _dcp,
    "dcp without labels": partial(_dcp, weight=0.0),
    "gal": _gal,
}


def measure(
    model: nn.Module, method: str, draw: int, fraction: float | None, recoveries: list[str], experiment: str,
    train: harness.Images, test: harness.Images,
) -> dict[str, dict]:  # fmt: skip
    """For each of some recoveries: accuracy on all test images after one cut, and the filters that are left."""
    smaller, report = cut(model, method, draw, fraction, experiment, train)
    images = train[0][draw * IMAGES : (draw + 1) * IMAGES]
    measured = {}
    for name in recoveries:
        recovered = RECOVERIES[name](model, smaller, report, images, train, draw)
        measured[name] = {
            "accuracy": training.accuracy(recovered, *test),
            "filters": sum(layer.out_channels for layer in recovered.modules() if hasattr(layer, "out_channels")),
        }
    return measured


def _nothing(model, smaller, report, images, train, draw):
    return smaller


def _batch_norm(model, smaller, report, images, train, draw):
    return recalibrate_batch_norm(smaller, images)


def _least_squares(model, smaller, report, images, train, draw):
    return reconstruction.least_squares(model, smaller, report, images, seed=draw)[0]


def _one_epoch(model, smaller, report, images, train, draw):
    smaller = copy.deepcopy(smaller)
    training.fit(smaller, *train, epochs=1, seed=draw, lr=0.02, augment=True, precision="bf16", progress=False)
    return smaller


def _others_one_epoch(model, smaller, report, images, train, draw):
    """The control of a method that chose its own widths: the same widths, random filters, one epoch."""
    torch.manual_seed(draw)
    chosen = {}
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            chosen[name] = torch.randperm(layer.out_channels)[smaller.get_submodule(name).out_channels :]
    return _one_epoch(model, surgery.remove(model, data.normalize(images[:1]), chosen)[0], report, images, train, draw)


RECOVERIES = {
    "none": _nothing,
    "batch norm": _batch_norm,
    "least squares": _least_squares,
    "one epoch": _one_epoch,
    "others, one epoch": _others_one_epoch,
}
RECOVERED = {
    "network": ("none", "batch norm", "least squares", "one epoch"),
    "complete": ("none", "one epoch", "others, one epoch"),
    "layer": ("none", "batch norm", "least squares"),
}


def _methods() -> list[tuple[str, int]]:
    """Every method once, and the random choice several times."""
    chosen = [name for name in criteria.ALL if name != "random"] + ["thinet", "channel_lasso"]
    return [(name, 0) for name in chosen] + [("random", draw) for draw in range(DRAWS)]


class _Results:
    """``results/criteria.json``: one row per measurement, written after each."""

    def __init__(self, command: str):
        self.path = ledger.directory() / "criteria.json"
        self.provenance = ledger.provenance(command)
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.exists() else []
        self.known = {tuple(row[field] for field in _FIELDS) for row in self.rows}

    def __contains__(self, key: tuple) -> bool:
        return key in self.known

    def add(self, key: tuple, measured: dict[str, dict]) -> None:
        for recovery, values in measured.items():
            self.rows.append(dict(zip(_FIELDS, (*key, recovery), strict=True)) | values)
        content = json.dumps(self.provenance)[:-1] + ', "rows": [\n' + ",\n".join(map(json.dumps, self.rows)) + "\n]}\n"
        files.write(self.path, content.encode())


_FIELDS = ("experiment", "seed", "method", "draw", "fraction", "recovery")
