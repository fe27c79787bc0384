"""Let the weights of a baseline share few values, and write its rows to the ledger of chapter 06.

METHOD is one of: ``linear``, ``density``, ``random`` (Han et al., arXiv 1510.00149: k-means of each layer's weights with
these starting centroids, then training of the centroids), ``product`` (Gong et al., arXiv 1412.6115: k-means of pieces of
the rows), ``response`` (Wu et al., arXiv 1512.06473: pieces fitted to what the layer answers), ``inq`` (Zhou et al., arXiv
1702.03044: powers of two, fixed part by part, the largest first, and the rest trained on), ``inq-random`` (parts drawn by
lot), ``inq-one-shot`` (all at once, no training).
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from compress_lib.experiments import harness
from compress_lib.models.zoo import NAMES

COMMAND = "share"

FITTED_IMAGES = 2_000  # of the training set, for the response


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=NAMES)
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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("checkpoints"), help="directory for the resumable state")
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    for seed in arguments.seeds:
        row = measure(**{key: value for key, value in vars(arguments).items() if key in OPTIONS}, seed=seed)
        print(
            f"{row['model']}, {row['method']}, {row['variant']}, seed {seed}: {row['accuracy_before']:.2%} → "
            f"{row['accuracy_after']:.2%}, {row['nbytes_before']:,} → {row['nbytes_after']:,} bytes on disk"
        )


OPTIONS = ("name", "method", "k", "length", "bits", "epochs", "work", "data")


def measure(name, method, k, length, bits, epochs, work, data, seed) -> dict:
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
    from compress_lib import data as datasets
    from compress_lib import ledger, training
    from compress_lib.models import zoo

    train = datasets.fashion_mnist("train", data)
    test = datasets.fashion_mnist("test", data)
    dense = zoo.load(name)
    used = {key: value for key, value in (("k", k), ("length", length), ("bits", bits), ("epochs", epochs))
            if key in USED[method]}  # fmt: skip
    run = "-".join([name, method, *(f"{key}{value}" for key, value in used.items()), f"seed{seed}"])
    work.mkdir(parents=True, exist_ok=True)

    def fit(model, phase, **options):
        checkpoint = work / f"{run}-{phase}.pt"
        settings = {"seed": seed, "lr": 0.02, "checkpoint": checkpoint} | PRECISION.get(name, {}) | options
        training.fit(model, *train, **settings)

    smaller, details = METHODS[method](dense, train, seed, fit, **used)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.cnet"
        restored, budget = harness.through_file(smaller, path, test[0], into=smaller)
        nbytes = path.stat().st_size
    compared = harness.compare(dense, restored, test)
    if method not in ("product", "response"):
        compared["latency_ratio"] = None  # what is read back is the dense network again
    flags = " ".join(f"--{key} {value}" for key, value in used.items())
    return ledger.record(
        {
            "chapter": "06-codebooks",
            "method": NAMED[method],
            "model": name,
            "data": "fashion-mnist",
            "variant": ", ".join(f"{key} {value}" for key, value in used.items()),
            "seed": seed,
            **compared,
            "nbytes_after": nbytes,
            "details": {**details, "budget": [vars(layer) for layer in budget.rows]},
            "command": f"python -m compress_lib share {name} {method} {flags} --seeds {seed}",
        }
    )


# Each takes (dense model, training data, seed, how to train, its options) and gives the smaller model and what else was
# measured.


def _codebook(dense, train, seed, fit, k, epochs, init):
    from compress_lib.quantization.codebooks import kmeans

    shared, report = kmeans.convert(dense, k, init=init, seed=seed)
    if epochs:
        fit(shared, "values", epochs=epochs, lr=kmeans.learning_rate(shared), weight_decay=0.0)
    return kmeans.deploy(shared), {"rmse": {row.layer: row.rmse for row in report.rows}}


def _product(dense, train, seed, fit, k, length):
    from compress_lib.quantization.codebooks import product

    smaller, report = product.quantize(dense, _sizes(dense, length, k), seed=seed)
    return smaller, {"layers": [row.layer for row in report.rows]}


def _response(dense, train, seed, fit, k, length):
    from compress_lib.quantization.codebooks import pq_response

    smaller, report = pq_response.quantize(dense, _sizes(dense, length, k), train[0][:FITTED_IMAGES], seed=seed)
    errors = {row.layer: [row.error_plain, row.error] for row in report.rows}
    return smaller, {"layers": list(errors), "response_errors": errors}


def _sizes(dense, length: int, k: int) -> dict[str, tuple[int, int]]:
    """Of the layers but the last, which has too few rows to share pieces; the nearest length that divides the inputs."""
    from compress_lib.network import targets

    layers = list(targets.prunable(dense).items())[:-1]
    return {name: (max(d for d in range(1, length + 1) if layer.weight.shape[1] % d == 0), k) for name, layer in layers}


def _incremental(dense, train, seed, fit, bits, epochs=0, order="largest"):
    from compress_lib.quantization.codebooks import inq

    model = dense
    portions = inq.SCHEDULES[f"{bits} bits"] if epochs else (1.0,)
    for portion in portions:
        model, report = inq.freeze(model, bits, portion, order=order, seed=seed)
        if portion < 1:
            fit(model, f"part-{portion}", epochs=epochs, seed=seed)
    return inq.deploy(model), {
        "portions": portions,
        "zeros": {row.layer: row.sparsity for row in report.rows},
    }


METHODS = {
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
# The convolutional networks of the book were trained with augmentation, in mixed precision.
PRECISION = {name: {"augment": True, "precision": "bf16"} for name in ("vgg-small", "resnet-20")}
