"""Neural-network compression: the methods of the book, one per file.

Importing the package is light: it loads no submodule, compiles nothing and touches neither disk nor network;
``__version__`` is read when it is asked for. Name what you need: ``from compress_lib import cost``,
``from compress_lib.pruning.weights import magnitude``.
"""


def __getattr__(name: str) -> str:
    if name == "__version__":
        from compress_lib._version import version

        return version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "__version__"])
