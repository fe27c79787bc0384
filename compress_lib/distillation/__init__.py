"""Distillation: training a small network on what a large one knows.

Submodules load when they are first named.
"""

import importlib

_SUBMODULES = ("logits",)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
