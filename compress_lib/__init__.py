"""Neural-network compression: the methods of the book, one per file.

Importing the package is light: it loads no submodule, compiles nothing and touches neither disk nor network. Name what
you need: ``from compress_lib import cost``, ``from compress_lib.pruning.weights import magnitude``.
"""

__version__ = "0.1.0"
