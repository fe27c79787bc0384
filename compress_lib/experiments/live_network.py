"""Measure what the network that runs in the page needs from here, for chapter 07 and the landing page.

In ``results/live-network.json``: the first test images, what the dense network answers to them, and for each position
of the two sliders the bytes of the file and the accuracy over all test images. The images are Fashion-MNIST's,
copyright Zalando SE, under the MIT License.
"""

import argparse
import base64
import copy
import json
import tempfile
from pathlib import Path

import torch
from torch import nn

from compress_lib import container, cost, data, files, ledger, training
from compress_lib.experiments import harness
from compress_lib.explore.live.simplify import simplify
from compress_lib.models import zoo

COMMAND = "live"

NAME = "lenet-300-100"
IMAGES = 24
DROPPED = range(15)  # of the 16 values of a layer
VALUES = (16, 12, 8, 6, 4, 3, 2, 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="directory with Fashion-MNIST (default: wherever it is found)")


def run(arguments: argparse.Namespace) -> None:
    print(f"written: {measure(arguments.data)}")


def measure(root: harness.Directory = None) -> Path:
    """Write and return ``results/live-network.json``."""
    provenance = ledger.provenance(f"python -m compress_lib {COMMAND}")  # before the files change
    images, labels = harness.fashion_mnist(root)[1]
    dense = zoo.load(NAME)
    compressed = container.load(ledger.directory() / "compressed" / f"{NAME}.cnet")
    sliders: dict[str, list] = {"dropped": list(DROPPED), "values": list(VALUES), "nbytes": [], "accuracy": []}
    for dropped in DROPPED:
        found = [_measured(simplified(compressed, dropped, values), images, labels) for values in VALUES]
        sliders["nbytes"].append([nbytes for nbytes, _ in found])
        sliders["accuracy"].append([accuracy for _, accuracy in found])
    content = provenance | {
        "classes": list(data.CLASSES),
        "images": base64.b64encode(images[:IMAGES].numpy().tobytes()).decode(),
        "labels": labels[:IMAGES].tolist(),
        "dense": {
            "nbytes": cost.nbytes_on_disk(dense),
            "accuracy": training.accuracy(dense, images, labels),
            "logits": [[round(x, 4) for x in row] for row in training.predict(dense, images[:IMAGES]).tolist()],
        },
        "sliders": sliders,
    }
    path = ledger.directory() / "live-network.json"
    files.write(path, json.dumps(content, indent=1).encode())
    return path


def simplified(network: nn.Module, dropped: int, values: int) -> nn.Module:
    """A copy of the network with fewer shared values in each layer."""
    smaller = copy.deepcopy(network)
    for module in smaller.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = torch.from_numpy(simplify(module.weight.detach().numpy(), dropped, values))
    return smaller


def _measured(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[int, float]:
    """The bytes of the network's file, and its accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        nbytes = container.save(network, Path(folder) / NAME, architecture=NAME).nbytes
    return nbytes, training.accuracy(network, images, labels)
