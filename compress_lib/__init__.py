"""Neural-network compression: the methods of the book, one per file.

Importing the package is light: it loads no submodule, compiles nothing and touches neither disk nor network.
Submodules load when they are first named, so both ``import compress_lib.cost`` and ``compress_lib.cost`` work.
"""

import importlib

__version__ = "0.1.0"

_SUBMODULES = (
    "binary",
    "coding",
    "cost",
    "data",
    "distillation",
    "explore",
    "export",
    "figures",
    "files",
    "ledger",
    "models",
    "ops",
    "pruning",
    "quantization",
    "statistics",
    "tables",
    "training",
)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
