"""One small example of every explorer, with made-up data: a function named after its module, which draws from ``rng``.

Where there is none, `example` asks the module for its explorer as it is.
"""

import importlib
import zlib

import numpy as np
from torch import nn

from compress_lib import cost


def example(module: str):
    """The explorer of a module, the same one each time."""
    build = importlib.import_module(f"compress_lib.explore.{module}").explorer
    if fill := globals().get(module):
        return fill(build, np.random.default_rng(zlib.crc32(module.encode())))
    return build()


CURVE = np.linspace(0.9, 0.1, 32).tolist()


def weight_threshold(build, rng):
    weights = {"fc": rng.normal(size=(20, 25))}
    return build(weights, {"fc": ([0, 1], [0.9, 0.1])}, images=("fc", rng.normal(size=(6, 5, 5))))


def filter_surgery(build, rng):
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3))
    orders = {"smallest L1 norm first": range(32), "by lot": rng.permutation(32).tolist()}
    return build(
        rng.random((2, 32, 14, 14)),
        orders,
        dict.fromkeys(orders, CURVE),
        images={"T-shirt": rng.random((28, 28)), "Ankle boot": rng.random((28, 28))},
        norms=("L1 norm", rng.random(32)),
        costs=cost.count(model, (16, 60, 60)),
        shapes={name: p.shape for name, p in model.named_parameters()},
        layer="0",
        batch_norm="1",
        reader="3",
        recovered=("after fresh batch statistics", dict.fromkeys(orders, CURVE)),
        removed=9,
    )


def criterion_choice(build, rng):
    names = ["L1 norm", "geometric median", "batch norm scale", "reconstruction error"]
    curves = {recovery: CURVE[:5] for recovery in ("none", "batch norm", "least squares")}
    return build(
        {name: rng.normal(size=64) for name in names},
        {name: curves for name in [*names, "random"]},
        [0, 0.25, 0.5, 0.75, 0.9],
        layer="features.20",
        deviation=dict.fromkeys(curves, np.full(5, 0.05)),
        criterion="geometric median",
    )


def grid_choice(build, rng):
    tensors = {"weights of features.14": rng.normal(size=(64, 9)), "activations": np.maximum(rng.normal(size=900), 0)}
    return build(tensors, bits=8)


def centroids(build, rng):
    weights = rng.normal(size=(30, 40))
    return build({"fc2": weights, "fc2, pruned": weights * (np.abs(weights) > 1)}, k=24)


def byte_budget(build, rng):
    weights = {name: rng.normal(size=(40, 50)) * (rng.random((40, 50)) < 0.1) for name in ("fc1", "fc2")}
    return build(weights, biases={"fc1": rng.normal(size=40)}, accuracies={16: 0.8})


def binary_filter(build, rng):
    filters = {f"features.20, filter {i}": rng.normal(size=(64, 3, 3)) for i in range(4)}
    return build(filters, rng.normal(size=(64, 3, 3)), weights="ternary", percent=150)


def xnor_popcount(build, rng):
    filters = {f"features.20, filter {i}": rng.normal(size=(64, 3, 3)) for i in range(3)}
    return build(filters, rng.normal(size=(64, 3, 3)))


def squeeze_ratio(build, rng):
    return build(accuracies={1 / 8: 0.8, 1: 0.9})


def width_and_resolution(build, rng):
    kinds = ("depthwise separable", "full")
    return build(alpha=0.75, size=160, accuracies={kind: {0.5: rng.random(2), 1: rng.random(2)} for kind in kinds})


def network_cost(build, rng):
    return build(roofline=cost.Roofline(50e9, 20e9, threads=1))
