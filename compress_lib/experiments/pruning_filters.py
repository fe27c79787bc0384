"""Remove filters, neurons or layers of a baseline, recover, and write its rows to the ledger.

METHOD is one of: ``filters`` (Li et al., arXiv 1608.08710: the smallest L1 norms), ``random`` (as many random
filters), ``scratch`` (the narrow network trained from new weights), ``slimming`` (Liu et al., arXiv 1708.06519: trained
with a penalty on the scales first), ``neurons`` (Srinivas & Babu, arXiv 1507.06149: similar neurons of hidden linear
layers merged), ``neurons-random`` (as many random ones), ``dropneuron`` (Pan et al., arXiv 1606.07326: trained with a
proximal step on the weights into each neuron first, which decides how many go), ``layers`` (Chen & Zhao, TPAMI 2019:
the residual blocks that a linear probe finds idle, recovery by distillation), ``layers-plain`` (the same blocks, plain
recovery), ``layers-worst`` (the blocks that the probe finds busiest, recovery by distillation).
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from compress_lib import data, ledger, training
from compress_lib.distillation.logits import distillation_loss
from compress_lib.experiments import harness
from compress_lib.models import zoo
from compress_lib.models.resnet import BasicBlock
from compress_lib.pruning import criteria, layer_pruning, surgery
from compress_lib.pruning.channels import filters, slimming
from compress_lib.pruning.neurons import data_free, dropneuron
from compress_lib.pruning.neurons.chains import find_chains

COMMAND = "shrink"

# Slimming: the strength of the penalty on the scales, and the epochs of training with it.
STRENGTH, SPARSE_EPOCHS = 1e-2, 5
# DropNeuron: the strength of its proximal step, λ ÷ (1 − momentum), and the epochs of training with it.
NEURON_STRENGTH, NEURON_EPOCHS = 2e-2, 8
# How networks recover; those of linear layers as they were trained, without augmentation and in full precision.
RECOVERY = {"lr": 0.02} | harness.TRAINING | {"augment": True, "precision": "bf16"}
PLAIN = {"augment": False, "precision": "fp32"}
# The images for the probes: so many to train on, and as many to score them on.
PROBE_IMAGES = 2_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=zoo.NAMES)
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument(
        "--fraction", type=float, default=0.5, help="of the filters or neurons per layer (slimming: overall) to remove"
    )
    parser.add_argument("--blocks", type=int, default=2, help="residual blocks to remove (method layers)")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of recovery (default 5)")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    for seed in arguments.seeds:
        amount = arguments.blocks if arguments.method.startswith("layers") else arguments.fraction
        row = measure(arguments.name, arguments.method, amount, arguments.epochs, seed, arguments.work, arguments.data)
        print(harness.summary(row))


def measure(
    name: str, method: str, amount: float, epochs: int, seed: int, work: Path, root: harness.Directory = None
) -> dict:
    """Shrink the baseline ``name`` once; write and return its row of the ledger.

    Parameters
    ----------
    name : of a baseline in the zoo.
    method : one of `METHODS`.
    amount : fraction of filters or neurons, or number of blocks, to remove; DropNeuron has no use for it.
    epochs : of recovery.
    seed : of all that is random: the training, and the random choices.
    work : directory for checkpoints. A run that is already there is not trained again, only measured.
    root : directory with Fashion-MNIST, if not where it is found by itself.
    """
    train, test = harness.fashion_mnist(root)
    dense = zoo.load(name)
    image = data.normalize(test[0][:1])
    run = f"{name}-{method}-{amount}-{epochs}-seed{seed}"

    def fit(model, phase, **settings):
        settings = harness.fit_settings(RECOVERY) | settings
        return training.fit(model, *train, seed=seed, checkpoint=work / f"{run}-{phase}.pt", **settings)

    torch.manual_seed(seed)
    smaller, settings, details = METHODS[method](dense, image, amount, train, partial(fit, phase="before"))
    objective = settings.pop("objective", training.cross_entropy)
    details["accuracy_without_recovery"] = training.accuracy(smaller, *test)
    given: dict[str, Any]
    if method.startswith("layers"):
        given, removed = {"blocks": amount}, f"{amount} blocks"
    elif method.startswith("neurons"):
        given, removed = {"fraction": amount}, f"{amount:.0%} of the neurons"
    elif method == "dropneuron":
        given, removed = {}, "silent neurons"
    else:
        given, removed = {"fraction": amount}, f"{amount:.0%} of the filters"
    given["epochs"] = epochs
    recipe = given | RECOVERY | settings
    history = fit(smaller, "recovery", objective=objective, **harness.fit_settings(recipe))
    details["recovery_seconds"] = round(sum(entry["seconds"] for entry in history), 1)
    return ledger.record(
        {
            "chapter": "03-pruning-filters",
            "method": NAMED[method],
            "model": name,
            "data": "fashion-mnist",
            "variant": f"{removed} removed, {epochs} epochs",
            "recipe": recipe,
            "seed": seed,
            **harness.compare(dense, smaller, test),
            "details": details,
            "command": f"python -m compress_lib shrink {name} {method} {harness.flags(given)} --seeds {seed}",
        }
    )


# Each takes (dense model, an image, amount, training data, how to train) and gives the smaller model, how its recovery
# differs from `RECOVERY`, and what else was measured.


def _filters(dense, image, fraction, train, fit, criterion="l1_norm"):
    return filters.prune(dense, image, fraction, criterion=criteria.ALL[criterion])[0], {}, {}


def _scratch(dense, image, fraction, train, fit):
    smaller, _, _ = _filters(dense, image, fraction, train, fit)
    for module in smaller.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return smaller, {"lr": 0.1}, {}  # as if it were trained for the first time


def _slimming(dense, image, fraction, train, fit):
    def objective(model, x, y):
        return training.cross_entropy(model, x, y) + STRENGTH * slimming.penalty(model)

    sparse = copy.deepcopy(dense)
    fit(sparse, epochs=SPARSE_EPOCHS, objective=objective)
    smaller, _ = slimming.prune(sparse, image, fraction)
    scales = {"dense": _scales(dense), "penalized": _scales(sparse)}
    return smaller, {"strength": STRENGTH, "sparse_epochs": SPARSE_EPOCHS}, {"scales": scales}


def _scales(model):
    """|γ| of every batch normalization, sorted."""
    norms = [module for module in model.modules() if hasattr(module, "running_mean")]
    return sorted(round(gamma, 6) for norm in norms for gamma in norm.weight.abs().tolist())


def _neurons(dense, image, fraction, train, fit, at_random=False):
    sizes = {name: len(dense.get_submodule(name).weight) for name in find_chains(dense)[0]}
    counts = {name: int(fraction * size) for name, size in sizes.items()}
    if at_random:
        chosen = {name: torch.randperm(size)[: counts[name]] for name, size in sizes.items()}
        smaller, _ = surgery.remove(dense, image, chosen)
    else:
        smaller, _ = data_free.prune(dense, image, counts)
    return smaller, dict(PLAIN), {"neurons_removed": counts}


def _dropneuron(dense, image, _, train, fit):
    hidden, _ = find_chains(dense)

    def after_step(model, lr):
        dropneuron.shrink_(model, hidden, lr * NEURON_STRENGTH, 0)

    sparse = copy.deepcopy(dense)
    fit(sparse, epochs=NEURON_EPOCHS, lr=0.05, weight_decay=0, after_step=after_step, **PLAIN)
    smaller, report = dropneuron.prune(sparse, image)
    left = {name: len(kept) for name, kept in report.kept_outputs.items()}
    return smaller, PLAIN | {"strength": NEURON_STRENGTH, "sparse_epochs": NEURON_EPOCHS}, {"neurons_left": left}


def _layers(dense, image, count, train, fit, busiest=False, distil=True):
    probes = probe_blocks(dense, image, train)
    chosen = layer_pruning.select(probes["accuracy"], count=count, among=probes["removable"])
    if busiest:
        least = layer_pruning.select(
            probes["accuracy"], count=len(probes["removable"]) - count, among=probes["removable"]
        )
        chosen = [name for name in probes["removable"] if name not in least]

    def objective(model, x, y):
        with torch.no_grad():
            teacher = dense(x)
        return distillation_loss(model(x), teacher, y)

    settings = {"objective": objective} if distil else {}
    return layer_pruning.remove(dense, image, chosen), settings, {"probes": probes["accuracy"], "removed": chosen}


def probe_blocks(model, image, train):
    """Probe the residual blocks of a ResNet; which of them keep the shape of what they are given?"""
    blocks = [name for name, module in model.named_modules() if isinstance(module, BasicBlock)]
    if not blocks:
        raise ValueError(f"method layers needs residual blocks; a {type(model).__name__} has none")
    images, labels = train
    first, second = slice(0, PROBE_IMAGES), slice(PROBE_IMAGES, 2 * PROBE_IMAGES)
    accuracy = layer_pruning.probe(
        model, ["bn1", *blocks], images[first], labels[first], images[second], labels[second]
    )
    shapes = layer_pruning.shapes(model, image, blocks)
    return {"accuracy": accuracy, "removable": [name for name in blocks if shapes[name][0] == shapes[name][1]]}


METHODS: dict[str, Callable] = {
    "filters": _filters,
    "random": partial(_filters, criterion="random"),
    "scratch": _scratch,
    "slimming": _slimming,
    "neurons": _neurons,
    "neurons-random": partial(_neurons, at_random=True),
    "dropneuron": _dropneuron,
    "layers": _layers,
    "layers-plain": partial(_layers, distil=False),
    "layers-worst": partial(_layers, busiest=True),
}
NAMED = {
    "filters": "filter pruning (L1)",
    "random": "filter pruning (random)",
    "scratch": "narrow network from scratch",
    "slimming": "network slimming",
    "neurons": "merged neurons",
    "neurons-random": "neurons (random)",
    "dropneuron": "DropNeuron",
    "layers": "layer pruning",
    "layers-plain": "layer pruning, plain recovery",
    "layers-worst": "layer pruning, busiest blocks",
}
