"""Neural-network compression: the methods of the book, one per file.

Importing the package is light: it loads no submodule, compiles nothing and touches neither disk nor network.
Submodules load when they are first named, so both ``import compress_lib.cost`` and ``compress_lib.cost`` work, and
``__version__`` is read when it is asked for.
"""

import importlib
from typing import Any

_SUBMODULES = (
    "binary",
    "coding",
    "cost",
    "data",
    "distillation",
    "explore",
    "figures",
    "files",
    "ledger",
    "models",
    "ops",
    "pruning",
    "quantization",
    "tables",
    "training",
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module(f"{__name__}._version").version()
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "__version__", *_SUBMODULES])
