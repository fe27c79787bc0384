"""Let the weights of a baseline share few values, and write its rows to the ledger of chapter 06.

METHOD is one of: ``linear``, ``density``, ``random`` (Han et al., arXiv 1510.00149: k-means of each layer's weights
with these starting centroids, then training of the centroids), ``product`` (Gong et al., arXiv 1412.6115: k-means of
pieces of the rows), ``response`` (Wu et al., arXiv 1512.06473: pieces fitted to what the layer answers), ``inq`` (Zhou
et al., arXiv 1702.03044: powers of two, fixed part by part, the largest first, and the rest trained on), ``inq-random``
(random parts), ``inq-one-shot`` (all at once, no training).
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from compress_lib import ledger, training
from compress_lib.experiments import harness
from compress_lib.models import zoo
from compress_lib.network import targets
from compress_lib.quantization.codebooks import inq, kmeans, pq_response, product

COMMAND = "share"

FITTED_IMAGES = 2_000  # of the training set, for the response


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=zoo.NAMES)
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument("--k", type=int, default=16, help="values, or pieces, per codebook (default 16)")
    parser.add_argument(
        "--length",
        type=int,
        default=4,
        help="of a piece (product, response; default 4), or less where it does not divide a row",
    )
    parser.add_argument("--bits", type=int, default=5, help="of a weight (inq…; default 5)")
    parser.add_argument("--epochs", type=int, default=1, help="of training: of the centroids, or per part (default 1)")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    for seed in arguments.seeds:
        row = measure(**{key: value for key, value in vars(arguments).items() if key in OPTIONS}, seed=seed)
        print(harness.summary(row))


OPTIONS = ("name", "method", "k", "length", "bits", "epochs", "work", "data")


def measure(
    name: str, method: str, k: int, length: int, bits: int, epochs: int, work: Path, data: harness.Directory, seed: int
) -> dict:
    """Quantize the baseline ``name`` once; write and return its row of the ledger.

    Parameters
    ----------
    name : of a baseline in the zoo.
    method : one of `METHODS`; each uses some of the next four.
    k, length, bits, epochs : as the command's options.
    work : directory for checkpoints. A run that is already there is not trained again, only measured.
    data : directory with Fashion-MNIST, if not where it is found by itself.
    seed : of all that is random.
    """
    train, test = harness.fashion_mnist(data)
    dense = zoo.load(name)
    used = {key: value for key, value in (("k", k), ("length", length), ("bits", bits), ("epochs", epochs))
            if key in USED[method]}  # fmt: skip
    recipe: dict[str, Any] = used | {"split": harness.TRAINING["split"]}
    if method == "response":
        recipe["images"] = FITTED_IMAGES
    if used.get("epochs"):
        recipe |= {"lr": LR.get(method), **harness.TRAINING, **TRAINED.get(name, {})}
    run = "-".join([name, method, *(f"{key}{value}" for key, value in used.items()), f"seed{seed}"])
    work.mkdir(parents=True, exist_ok=True)

    def fit(model, phase, **options):
        settings = harness.fit_settings(recipe) | {"seed": seed, "checkpoint": work / f"{run}-{phase}.pt"} | options
        training.fit(model, *train, **settings)

    smaller, details = METHODS[method](dense, train, seed, fit, **used)
    restored, budget = harness.through_file(smaller, test[0], into=smaller)
    compared = harness.compare(dense, restored, test)
    if method not in ("product", "response"):
        compared["latency_ratio"] = None  # what is read back is the dense network again
    return ledger.record(
        {
            "chapter": "06-codebooks",
            "method": NAMED[method],
            "model": name,
            "data": "fashion-mnist",
            "variant": harness.words(used),
            "recipe": recipe,
            "seed": seed,
            **compared,
            "nbytes_after": budget.nbytes,
            "details": {**details, "budget": [vars(layer) for layer in budget.rows]},
            "command": f"python -m compress_lib share {name} {method} {harness.flags(used)} --seeds {seed}",
        }
    )


# Each takes (dense model, training data, seed, how to train, its options) and gives the smaller model and what else was
# measured.


def _codebook(dense, train, seed, fit, k, epochs, init):
    shared, report = kmeans.convert(dense, k, init=init, seed=seed)
    if epochs:
        fit(shared, "values", lr=kmeans.learning_rate(shared), weight_decay=0.0)
    return kmeans.deploy(shared), {"rmse": {row.layer: row.rmse for row in report.rows}}


def _product(dense, train, seed, fit, k, length):
    smaller, report = product.quantize(dense, _sizes(dense, length, k), seed=seed)
    return smaller, {"layers": [row.layer for row in report.rows]}


def _response(dense, train, seed, fit, k, length):
    smaller, report = pq_response.quantize(dense, _sizes(dense, length, k), train[0][:FITTED_IMAGES], seed=seed)
    errors = {row.layer: [row.error_plain, row.error] for row in report.rows}
    return smaller, {"layers": list(errors), "response_errors": errors}


def _sizes(dense: nn.Module, length: int, k: int) -> dict[str, tuple[int, int]]:
    """Of all layers but the last, which has too few rows to share; the nearest length that divides the inputs."""
    layers = list(targets.prunable(dense).items())[:-1]
    return {name: (max(d for d in range(1, length + 1) if layer.weight.shape[1] % d == 0), k) for name, layer in layers}


def _incremental(dense, train, seed, fit, bits, epochs=0, order="largest"):
    model = dense
    portions = inq.SCHEDULES[f"{bits} bits"] if epochs else (1.0,)
    for portion in portions:
        model, report = inq.freeze(model, bits, portion, order=order, seed=seed)
        if portion < 1:
            fit(model, f"part-{portion}")
    return inq.deploy(model), {"portions": portions, "zeros": {row.layer: row.sparsity for row in report.rows}}


METHODS: dict[str, Callable] = {
    "linear": partial(_codebook, init="linear"),
    "density": partial(_codebook, init="density"),
    "random": partial(_codebook, init="random"),
    "product": _product,
    "response": _response,
    "inq": _incremental,
    "inq-random": partial(_incremental, order="random"),
    "inq-one-shot": _incremental,
}
USED = {
    **dict.fromkeys(("linear", "density", "random"), ("k", "epochs")),
    **dict.fromkeys(("product", "response"), ("k", "length")),
    **dict.fromkeys(("inq", "inq-random"), ("bits", "epochs")),
    "inq-one-shot": ("bits",),
}
NAMED = {
    "linear": "codebook, linear start",
    "density": "codebook, density start",
    "random": "codebook, random start",
    "product": "product quantization",
    "response": "product quantization, fitted to responses",
    "inq": "INQ, largest first",
    "inq-random": "INQ, parts by lot",
    "inq-one-shot": "powers of two, one shot",
}
# Peak learning rates. Centroids have none that is chosen: `kmeans.learning_rate`.
LR = dict.fromkeys(("inq", "inq-random"), 0.02)
# The convolutional networks of the book were trained with augmentation, in mixed precision.
TRAINED: dict[str, dict[str, Any]] = {
    name: {"augment": True, "precision": "bf16"} for name in ("vgg-small", "resnet-20")
}
