"""Pruning: removing weights, and later whole neurons, filters and layers, that a network can do without.

Submodules load when they are first named.
"""

import importlib

_SUBMODULES = (
    "batch_norm",
    "chains",
    "channel_lasso",
    "channels",
    "criteria",
    "csr",
    "csr_linear",
    "dcp",
    "dropneuron",
    "filters",
    "gal",
    "kinds",
    "layers",
    "magnitude",
    "masks",
    "names",
    "neurons",
    "observe",
    "operations",
    "patches",
    "penalty",
    "readers",
    "reconstruction",
    "report",
    "schedule",
    "sensitivity",
    "slimming",
    "surgery",
    "targets",
    "thinet",
    "tracing",
    "widths",
)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
