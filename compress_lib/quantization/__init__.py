"""Quantization: weights and activations on grids of integers, and weights that share a few values.

Submodules load when they are first named.
"""

import importlib

_SUBMODULES = (
    "affine",
    "agreement",
    "batch_norm_folding",
    "codebook",
    "conversion",
    "deep_compression",
    "fixed_point",
    "grid",
    "incremental",
    "int8",
    "integer_layer",
    "optimal_codebook",
    "pooling",
    "product",
    "ptq",
    "qat",
    "ranges",
    "response",
    "roles",
    "simulated",
    "soft",
    "sorted_weights",
    "subspaces",
)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
