"""Binary and ternary networks: weights, and activations, of one or two bits. Chapter 08.

Submodules load when they are first named.
"""

import importlib

_SUBMODULES = ("binarize", "bwn", "connect", "multibit", "networks", "packed_weight", "precision", "ternary", "xnor")


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
