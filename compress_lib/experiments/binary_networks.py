"""Train a binary or ternary network, pack it, and write its rows to the ledger of chapter 08.

METHOD is one of: ``binaryconnect`` and ``binaryconnect-stochastic`` (Courbariaux et al., arXiv 1511.00363), ``bwn``,
``xnor`` and ``xnor-without-k`` (Rastegari et al., arXiv 1603.05279), ``bnn`` (Courbariaux, Hubara et al., arXiv
1602.02830), ``multibit`` (after Zhou et al., arXiv 1606.06160) and ``twn`` (Li, Zhang, Liu, arXiv 1605.04711). The
network is `compress_lib.models.block_cnn`. Beside each stands the same network of floats, trained likewise from the
same start, but with weight decay; where weights become signs there is none. What is measured is read back from a file;
with random signs the accuracy of the real weights behind them is noted, too.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib import ledger, ops, training
from compress_lib.binary import binaryconnect, conversion
from compress_lib.container.budget import Budget
from compress_lib.experiments import harness
from compress_lib.models.block_cnn import ORDERS, block_cnn

COMMAND = "binarize"

MODEL = "block-cnn"
# How weights behind signs are trained: they stay in [−1, 1], and nothing else draws them to 0.
SIGNS: dict[str, Any] = {"weight_decay": 0.0, "after_step": binaryconnect.clip}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", choices=sorted(NAMED))
    parser.add_argument("--order", choices=ORDERS, default="bacp", help="of the blocks (default bacp)")
    parser.add_argument("--bits", type=int, default=2, help="of activations (multibit; default 2)")
    parser.add_argument("--width", type=int, default=64, help="of the network, see block_cnn (default 64)")
    parser.add_argument("--kernel-size", type=int, default=3, help="of the binary convolutions (default 3)")
    parser.add_argument("--epochs", type=int, default=4, help="of training (default 4)")
    parser.add_argument("--images", type=int, default=20_000, help="training images per epoch (default 20000)")
    parser.add_argument("--lr", type=float, default=0.2, help="peak learning rate (default 0.2)")
    harness.common_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    options = {key: value for key, value in vars(arguments).items() if key in OPTIONS}
    for seed in arguments.seeds:
        row = measure(**options, seed=seed)
        print(harness.summary(row))


OPTIONS = ("method", "order", "bits", "width", "kernel_size", "epochs", "images", "lr", "work", "data")


def measure(
    method: str, order: str, bits: int, width: int, kernel_size: int, epochs: int, images: int, lr: float, work: Path,
    data: harness.Directory, seed: int,
) -> dict:  # fmt: skip
    """Train, pack and measure one network; write and return its row of the ledger.

    Parameters
    ----------
    method : one of `NAMED`.
    order, width, kernel_size : of `compress_lib.models.block_cnn`.
    bits : of activations ("multibit" only).
    epochs, images, lr : of the training.
    work : directory for checkpoints. A run that is already there is not trained again, only measured.
    data : directory with Fashion-MNIST, if not where it is found by itself.
    seed : of all that is random: the first weights, which training images are used, and in what order.

    Raises
    ------
    RuntimeError
        If the packed network, or the one that was read back, has other logits, in one bit, than the trained one.
    """
    train, test = harness.fashion_mnist(data)
    chosen = harness.draw(train, images, seed)
    options: dict[str, Any] = {"order": order, "width": width, "kernel_size": kernel_size}
    length = {"epochs": epochs, "images": images, "lr": lr}
    used = options | ({"bits": bits} if method == "multibit" else {}) | length
    recipe = used | harness.TRAINING
    dense = fresh(seed, **options)
    settings: dict[str, Any] = {"method": method} | ({"bits": bits} if method == "multibit" else {})
    trained = conversion.convert(dense, **settings)
    work.mkdir(parents=True, exist_ok=True)

    def fit(network, name, **rest):
        parts = (MODEL, name, *options.values(), *length.values(), f"seed{seed}")
        checkpoint = work / ("-".join(map(str, parts)) + ".pt")
        settings = harness.fit_settings(recipe) | rest
        return training.fit(network, *chosen, seed=seed, checkpoint=checkpoint, **settings)

    fit(dense, "float")
    history = fit(trained, "".join(map(str, settings.values())), **SIGNS)
    restored, budget = through_file(trained, settings, options, test[0])
    details = {"backend": ops.backend(), "history": history, "budget": [vars(layer) for layer in budget.rows]}
    if method == "binaryconnect-stochastic":
        details["accuracy_of_real_weights"] = training.accuracy(_with_real_weights(trained), *test)
    return ledger.record(
        {
            "chapter": "08-binary-networks",
            "method": NAMED[method],
            "model": MODEL,
            "data": "fashion-mnist",
            "variant": harness.words(used),
            "recipe": recipe,
            "seed": seed,
            **harness.compare(dense, restored, test, counted=dense),  # the same products, of bits
            "nbytes_after": budget.nbytes,
            "details": details,
            "command": f"python -m compress_lib binarize {method} {harness.flags(used)} --seeds {seed}",
        }
    )


def fresh(seed: int, **options: Any) -> nn.Module:
    """`compress_lib.models.block_cnn` with the first weights that the seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return block_cnn(**options)


def through_file(trained: nn.Module, settings: dict, options: dict, images: Tensor) -> tuple[nn.Module, Budget]:
    """Pack a trained network, and take it through a file.

    Parameters
    ----------
    trained : the train form.
    settings : of `compress_lib.binary.conversion.convert`.
    options : of `compress_lib.models.block_cnn`.
    images : of the test set; on them all three forms must have the same logits.

    Raises
    ------
    RuntimeError : they differ in one bit.
    """
    deployed = conversion.deploy(trained)
    if not training.predict(deployed, images).equal(training.predict(trained, images)):
        raise RuntimeError(f"the packed form of {settings['method']} has other logits than its train form")
    metadata = {"options": options, "form": {"kind": "binary", "settings": settings}}
    return harness.through_file(deployed, images, architecture=MODEL, metadata=metadata)


def _with_real_weights(trained):
    """The network of the weights behind the signs: with these Courbariaux et al. test where they drew signs."""
    real = copy.deepcopy(trained)
    for module in real.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)
    return real


NAMED = {
    "binaryconnect": "BinaryConnect",
    "binaryconnect-stochastic": "BinaryConnect, stochastic",
    "bwn": "binary-weight network (BWN)",
    "bnn": "binarized neural network (BNN)",
    "xnor": "XNOR-Net",
    "xnor-without-k": "XNOR-Net without K",
    "multibit": "binary weights, multi-bit activations",
    "twn": "ternary weight network (TWN)",
}
