"""Coding: from arrays of small integers to bytes, and from a network to one small file, and back.

Submodules load when they are first named.
"""

import importlib

_SUBMODULES = (
    "bits",
    "budget",
    "container",
    "csc",
    "header",
    "huffman",
    "networks",
    "patterns",
    "records",
    "sparse_index",
    "streams",
    "tensors",
    "words",
)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
