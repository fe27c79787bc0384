"""Prune a baseline by magnitude, retrain it, and write its rows to the ledger.

Han et al. (arXiv 1506.02626): prune, train the survivors on from their values, repeat. Each seed is one row, for the
model with its sparse linear layers stored and multiplied in CSR.
"""

import argparse
from typing import Any

from torch import Tensor, nn

from compress_lib import ledger, training
from compress_lib.experiments import harness
from compress_lib.models import zoo
from compress_lib.network import masks
from compress_lib.pruning.weights import csr, magnitude
from compress_lib.pruning.weights.schedule import sparsity_schedule
from compress_lib.report import Report

COMMAND = "prune"

# The fraction of weights that Han et al. keep in each layer. Of SqueezeNet, Iandola et al. (arXiv 1602.07360) keep a
# third in all; here each layer but the first keeps a third.
PAPER_KEEP = {
    "lenet-300-100": {"fc1": 0.08, "fc2": 0.09, "fc3": 0.26},
    "lenet-5": {"conv1": 0.66, "conv2": 0.12, "fc1": 0.08, "fc2": 0.19},
    "squeezenet-small": {
        "features.0.0": 1.0,
        **{f"features.{i}.{part}.0": 0.33 for i in (2, 3, 5, 6, 7) for part in ("squeeze", "expand1x1", "expand3x3")},
        "scores": 0.33,
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=zoo.NAMES)
    parser.add_argument(
        "--keep",
        nargs="+",
        metavar="LAYER=FRACTION",
        help="fraction of weights to keep per layer, e.g. fc1=0.08 (default: the paper's, for the two LeNets)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="prune–retrain rounds (default 3)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of retraining per round (default 5)")
    parser.add_argument("--lr", type=float, default=0.02, help="peak learning rate of retraining (default 0.02)")
    harness.common_arguments(parser, work=False)


def run(arguments: argparse.Namespace) -> None:
    keep = keep_fractions(arguments.name, arguments.keep)
    for seed in arguments.seeds:
        row = measure(arguments.name, keep, arguments.rounds, arguments.epochs, arguments.lr, seed, arguments.data)
        print(harness.summary(row))


def measure(
    name: str, keep: dict[str, float], rounds: int, epochs: int, lr: float, seed: int, root: harness.Directory = None
) -> dict:
    """Prune and retrain the baseline ``name`` once; write and return its row of the ledger.

    Parameters
    ----------
    name : of a baseline in the zoo.
    keep : layer name → fraction of its weights that survive, in (0, 1]; layers not named stay dense.
    rounds : how many times to prune and retrain; the kept fraction falls by the same factor each time.
    epochs, lr : of the retraining in each round.
    seed : of the retraining.
    root : directory with Fashion-MNIST, if not where it is found by itself.
    """
    train, test = harness.fashion_mnist(root)
    recipe = {"keep": keep, "rounds": rounds, "epochs": epochs, "lr": lr, **harness.TRAINING}
    dense = zoo.load(name)
    one_shot, _ = magnitude.prune(dense, {layer: 1 - kept for layer, kept in keep.items()}, scope="layer")

    model, report, history = prune_and_retrain(dense, keep, rounds, *train, seed=seed, **harness.fit_settings(recipe))
    sparse, converted = csr.deploy(masks.deploy(model))

    compared = harness.compare(dense, sparse, test)
    keeping = "the paper's keep rates" if keep == PAPER_KEEP.get(name) else f"keep {harness.text(keep)}"
    flags = harness.flags({"keep": keep, "rounds": rounds, "epochs": epochs, "lr": lr, "seeds": seed})
    return ledger.record(
        {
            "chapter": "02-pruning-weights",
            "method": "magnitude pruning",
            "model": name,
            "data": "fashion-mnist",
            "variant": f"{keeping}, {rounds} × {epochs} epochs",
            "recipe": recipe,
            "seed": seed,
            **compared,
            # A linear layer multiplies each of its weights once per image, and in CSR only the kept ones.
            "macs_after": compared["macs_before"] - sum(layer.weights - layer.kept for layer in converted.rows),
            "details": {
                "weights": report.weights,
                "kept": report.kept,
                "kept_by_layer": {layer.layer: layer.kept for layer in report.rows},
                "accuracy_without_retraining": training.accuracy(one_shot, *test),
                "retraining_seconds": round(sum(entry["seconds"] for entry in history), 1),
            },
            "command": f"python -m compress_lib prune {name} {flags}",
        }
    )


def prune_and_retrain(
    dense: nn.Module, keep: dict[str, float], rounds: int, images: Tensor, targets: Any, *, seed: int, **options: Any
) -> tuple[nn.Module, Report, list[dict]]:
    """Prune by magnitude and train on, ``rounds`` times; the kept fraction falls by the same factor each time.

    Parameters
    ----------
    dense, keep, rounds, seed : as for `measure`.
    images, targets, options : as for `compress_lib.training.fit`.

    Returns
    -------
    (nn.Module, Report, list of dict)
        The network with its masks, the report of the last pruning, and the history of all rounds.
    """
    steps = {layer: sparsity_schedule(1 - kept, rounds) for layer, kept in keep.items()}
    model, history = dense, []
    for t in range(rounds):
        sparsity = {layer: values[t] for layer, values in steps.items()}
        model, report = magnitude.prune(model, sparsity, scope="layer")
        history += training.fit(model, images, targets, seed=seed * 1000 + t, **options)
    return model, report, history


def keep_fractions(name: str, pairs: list[str] | None) -> dict[str, float]:
    """``LAYER=FRACTION`` pairs as a mapping; without pairs the paper's, if it has any for the network."""
    if pairs is None:
        if name not in PAPER_KEEP:
            raise ValueError(f"--keep is needed for {name}: the paper has no keep rates for it")
        return PAPER_KEEP[name]
    keep = {}
    for pair in pairs:
        layer, _, fraction = pair.partition("=")
        try:
            keep[layer] = float(fraction)
        except ValueError:
            raise ValueError(f"--keep {pair!r} is not LAYER=FRACTION") from None
        if not 0 < keep[layer] <= 1:
            raise ValueError(f"--keep {pair!r}: the fraction must be in (0, 1]")
    return keep
