"""Prune by every criterion, beside a lottery, and measure four ways of recovery: the tables of chapter 04.

Two experiments on vgg-small. "network": half of the filters of every convolution go, in independently trained networks, one
per seed. "layer": a growing fraction of one layer goes, in the first of these networks. What is measured goes to
``results/criteria.json`` after each step; a run that was interrupted goes on where it stopped.

The network of seed 0 is in the zoo. The others come from ``python -m compress_lib train vgg-small --seed N --precision
bf16 --out WORK/vgg-small-seedN``.
"""

import argparse
import copy
import json
from pathlib import Path

LAYER = "features.14"  # 64 filters in the middle of the network
FRACTIONS = (0.25, 0.5, 0.625, 0.75, 0.875)
LOTS = 3  # draws of the lottery for each network
IMAGES = 1_000  # of the training set, for criteria that look at images, and for the recovery without training


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="the networks")
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory with the networks")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    from compress_lib import data
    from compress_lib.progress import progress_bar

    train = data.fashion_mnist("train", arguments.data)
    test = data.fashion_mnist("test", arguments.data)
    networks = {seed: load_network(seed, arguments.work) for seed in arguments.seeds}
    tasks = [("network", seed, method, draw, 0.5) for seed in networks for method, draw in _methods()]
    first = arguments.seeds[0]
    tasks += [("layer", first, method, draw, part) for part in FRACTIONS for method, draw in _methods()]
    results = _Results("python -m compress_lib criteria --seeds " + " ".join(map(str, arguments.seeds)))
    for experiment, seed, method, draw, fraction in progress_bar(iterable=tasks, unit="cut"):
        key = (experiment, seed, method, draw, fraction)
        recoveries = RECOVERIES if experiment == "network" else WITHOUT_TRAINING
        missing = [recovery for recovery in recoveries if (*key, recovery) not in results]
        if missing:
            accuracies = measure(networks[seed], method, draw, fraction, missing, experiment, train, test)
            results.add(key, accuracies)


def load_network(seed: int, work: Path):
    """The vgg-small that was trained with this seed.

    Raises
    ------
    ValueError
        If it is not there, with the command that trains it.
    """
    from safetensors.torch import load_file

    from compress_lib.models import zoo

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


def cut(model, method: str, draw: int, fraction: float, experiment: str, train):
    """The network after the cut, and the surgeon's report; nothing is recovered.

    Parameters
    ----------
    model : vgg-small.
    method : a name in ``criteria.ALL``, or "thinet" or "channel_lasso".
    draw : seed of the lottery, and of the images that criteria look at.
    fraction : to remove, of every convolution or of `LAYER`.
    experiment : "network" or "layer".
    train : images and labels.
    """
    import torch

    from compress_lib import data
    from compress_lib.pruning import channel_lasso, criteria, filters, thinet

    images, labels = (part[draw * IMAGES : (draw + 1) * IMAGES] for part in train)
    image = data.normalize(images[:1])
    # The hidden linear layer stays whole: it has no normalisation and no maps, which some criteria need.
    convolutions = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    fractions = dict.fromkeys(convolutions if experiment == "network" else [LAYER], fraction)
    if method == "thinet":
        return thinet.prune(model, image, fractions, images, rescale=False)
    if method == "channel_lasso":
        return channel_lasso.prune(model, image, fractions, images, reconstruct=False)
    torch.manual_seed(draw)
    return filters.prune(model, image, fractions, criterion=criteria.ALL[method], data=(images, labels))


def measure(model, method, draw, fraction, recoveries, experiment, train, test) -> dict[str, float]:
    """Accuracy on all test images after one cut and each of some recoveries."""
    from compress_lib import training

    smaller, report = cut(model, method, draw, fraction, experiment, train)
    images = train[0][draw * IMAGES : (draw + 1) * IMAGES]
    return {
        name: training.accuracy(RECOVERIES[name](model, smaller, report, images, train, draw), *test)
        for name in recoveries
    }


def _nothing(model, smaller, report, images, train, draw):
    return smaller


def _batch_norm(model, smaller, report, images, train, draw):
    from compress_lib.pruning.batch_norm import recalibrate_batch_norm

    return recalibrate_batch_norm(smaller, images)


def _least_squares(model, smaller, report, images, train, draw):
    from compress_lib.pruning import reconstruction

    return reconstruction.least_squares(model, smaller, report, images, seed=draw)[0]


def _one_epoch(model, smaller, report, images, train, draw):
    from compress_lib import training

    smaller = copy.deepcopy(smaller)
    training.fit(smaller, *train, epochs=1, seed=draw, lr=0.02, augment=True, precision="bf16", progress=False)
    return smaller


RECOVERIES = {
    "none": _nothing,
    "batch norm": _batch_norm,
    "least squares": _least_squares,
    "one epoch": _one_epoch,
}
WITHOUT_TRAINING = ("none", "batch norm", "least squares")


def _methods() -> list[tuple[str, int]]:
    """Every method once, and the lottery several times."""
    from compress_lib.pruning import criteria

    chosen = [name for name in criteria.ALL if name != "random"] + ["thinet", "channel_lasso"]
    return [(name, 0) for name in chosen] + [("random", draw) for draw in range(LOTS)]


class _Results:
    """``results/criteria.json``: one row per measurement, written after each."""

    def __init__(self, command: str):
        from compress_lib import ledger

        self.path = ledger.directory() / "criteria.json"
        self.provenance = ledger.provenance(command)
        self.rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.exists() else []
        self.known = {tuple(row[field] for field in _FIELDS) for row in self.rows}

    def __contains__(self, key: tuple) -> bool:
        return key in self.known

    def add(self, key: tuple, accuracies: dict[str, float]) -> None:
        from compress_lib import files

        for recovery, accuracy in accuracies.items():
            self.rows.append(dict(zip(_FIELDS, (*key, recovery))) | {"accuracy": accuracy})
        content = json.dumps(self.provenance)[:-1] + ', "rows": [\n' + ",\n".join(map(json.dumps, self.rows)) + "\n]}\n"
        files.write(self.path, content.encode())


_FIELDS = ("experiment", "seed", "method", "draw", "fraction", "recovery")
