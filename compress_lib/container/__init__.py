"""A network as one small file that needs no pickle, and back: `save`, `load` and `open`. Chapter 07."""

from compress_lib.container.archive import Container, load, open, save

__all__ = ["Container", "load", "open", "save"]
