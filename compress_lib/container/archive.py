"""A network as one small file that needs no pickle: written whole or not at all, read whole or refused. Chapter 07.

The file ends the pipeline of Han, Mao, Dally, "Deep compression", ICLR 2016, arXiv 1510.00149, and counts its bytes as
the paper's tables do. Everything is little-endian, numbers are varints and names texts as in `records`:

==========  ==========================================================================================================
magic       the bytes ``CNET`` and the version, 1
length      of the header, in 4 bytes
checksum    CRC-32 of the magic, the length and the header, in 4 bytes
header      metadata: its length and a JSON object; then the number of layers, and for each layer

            - its name, CRC-32 of its section in 4 bytes, and how many tensors it has; for each of these
            - its name in the layer and the bytes of its record, or 0 and the full name of an earlier tensor: it is that
sections    one per layer, in this order: the records (`tensors`) of its tensors, end to end, to the end of the file
==========  ==========================================================================================================

A layer is a module that has parameters or persistent buffers of its own. The metadata say how to build the network
again: ``architecture``, a name in `compress_lib.models.zoo`, ``options`` for its builder, and ``form``, if it was
converted: ``{"kind": "int8", "settings": …, "example_shape": […]}`` or ``{"kind": "binary", "settings": …}``. CRC-32
tells accidents from data, not an attacker's file: there, what holds is that nothing is run, and that memory is bounded
by the length of the file.
"""

import contextlib
import copy
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from compress_lib import files
from compress_lib.coding import records, tensors
from compress_lib.container import header
from compress_lib.container.budget import Budget, LayerBytes

if TYPE_CHECKING:
    from torch import Tensor, nn


def save(
    model: "nn.Module",
    path: str | os.PathLike,
    *,
    architecture: str | None = None,
    metadata: Mapping | None = None,
    index_bits: int | None = None,
    huffman: bool = True,
) -> Budget:
    """Write a network to a file. A file that was there stays as it was until the new one is whole.

    Parameters
    ----------
    model : nn.Module
        Plain: without masks, codebooks or other parametrizations. Tensors that are tied are stored once.
    path : path
        Of the file.
    architecture : str, optional
        The name in `compress_lib.models.zoo` of the network that `load` is to build.
    metadata : mapping, optional
        What else JSON can hold; ``options`` and ``form`` as in the description of the file.
    index_bits, huffman : as for `tensors.encode`.

    Returns
    -------
    Budget
        The bytes of the file, layer by layer, by what they are for.

    Raises
    ------
    TypeError, ValueError
        If the model is not plain or not the network that the metadata describe, has a tensor that `tensors` cannot
        encode, or metadata that JSON cannot hold.
    OSError
        If the file cannot be written.
    """
    from compress_lib.container import rebuild

    if architecture is not None:
        if "architecture" in (metadata or {}):
            raise ValueError("metadata must not have the key 'architecture' if architecture is given too")
        metadata = {"architecture": architecture, **(metadata or {})}
    state = rebuild.state(model)
    text = header.text(metadata or {})
    if "architecture" in (described := json.loads(text)):
        try:
            network = rebuild.build(described, sum(tensor.numel() for tensor in state.values()))
            rebuild.check_fit(rebuild.kinds(rebuild.state(network)), rebuild.kinds(state))
        except ValueError as error:
            raise ValueError(f"model must be the network that its metadata describe: {error}") from None
    layers: dict[str, dict[str, bytes | str]] = {}
    for name, owner in rebuild.owners(state).items():
        layer, _, local = name.rpartition(".")
        try:
            record = tensors.encode(state[name], index_bits=index_bits, huffman=huffman) if owner == name else owner
        except TypeError as error:
            raise TypeError(f"model has {name!r}, which cannot be stored: {error}") from None
        layers.setdefault(layer, {})[local] = record
    files.write(path, header.write(text, layers))
    return open(path).budget()


def load(path: str | os.PathLike, model: "nn.Module | None" = None) -> "nn.Module":
    """The network in a file, in evaluation mode.

    Parameters
    ----------
    path : path
        Of the file.
    model : nn.Module, optional
        A network of the same layers, which is copied. Without it, the network that the metadata describe is built.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If the file is damaged, or does not hold what the network needs. Nothing is returned then.
    OSError
        If it cannot be read.
    """
    from compress_lib.container import rebuild

    container = open(path)
    stored = container.records()
    with _blame(path):
        kinds = {name: tensors.describe(record) for name, record in stored.items()}
        kinds = {name: kinds[container.owner(name)] for name in container.names}
        if model is None:
            network = rebuild.build(container.metadata, sum(math.prod(shape) for _, shape in kinds.values()))
        else:
            network = copy.deepcopy(model)
        state = rebuild.state(network)
        rebuild.check_fit(rebuild.kinds(state), kinds)
        for name, owner in rebuild.owners(state).items():
            if container.owner(name) != container.owner(owner):
                raise ValueError(f"it has {name!r} apart from {owner!r}, which is the same tensor in the network")
        decoded = {name: tensors.decode(record) for name, record in stored.items()}
    network.load_state_dict({name: decoded[container.owner(name)] for name in container.names})
    return network.eval()


def open(path: str | os.PathLike) -> "Container":
    """A file whose header was read and checked; its tensors are read when they are asked for.

    Raises
    ------
    ValueError
        If the file is no container of this version, or its header or length is wrong.
    OSError
        If it cannot be read.
    """
    return Container(path)


class Container:
    """What `open` returns.

    Attributes
    ----------
    path : pathlib.Path
    metadata : dict
        As saved.
    names : list of str
        Of the tensors, as in a state dict.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        with _blame(path), self.path.open("rb") as file:
            self._header = header.read(file, os.fstat(file.fileno()).st_size)
        self.metadata, self.names = self._header.metadata, list(self._header.owners)

    def owner(self, name: str) -> str:
        """The name under which a tensor is stored: another one if it is tied. A ValueError refuses unknown names."""
        if name not in self._header.owners:
            raise ValueError(f"{self.path} has no tensor {name!r}; it has {', '.join(self.names)}")
        return self._header.owners[name]

    def tensor(self, name: str) -> "Tensor":
        """Read one layer's section and decode one tensor. A ValueError refuses unknown names and damaged sections."""
        owner = self.owner(name)
        record = next(self._records(s)[owner] for s in self._header.sections.values() if owner in s.lengths)
        with _blame(self.path):
            return tensors.decode(record)

    def records(self) -> dict[str, bytes]:
        """All records by the names of their tensors, read and checked, not decoded."""
        found: dict[str, bytes] = {}
        for section in self._header.sections.values():
            found |= self._records(section)
        return found

    def budget(self) -> Budget:
        """The bytes of the file, layer by layer, by what they are for. They add up to its size."""
        rows = []
        for layer, section in self._header.sections.items():
            found = self._records(section)
            with _blame(self.path):
                rows.append(LayerBytes.of(layer, found))
        return Budget([*rows, LayerBytes("(file)", header=self._header.nbytes)])

    def entropy_bound(self) -> float:
        """The sum of what `tensors.entropy_bound` gives, in bytes. Decodes everything."""
        found = self.records()
        with _blame(self.path):
            return sum(map(tensors.entropy_bound, found.values()))

    def _records(self, section: header.Section) -> dict[str, bytes]:
        with _blame(self.path), self.path.open("rb") as file:
            file.seek(section.start)
            content = file.read(section.nbytes)
            if len(content) != section.nbytes or zlib.crc32(content) != section.checksum:
                raise ValueError(f"the section of {', '.join(section.lengths)} is damaged: the checksum does not match")
        reader = records.Reader(content)
        return {name: reader.read(length) for name, length in section.lengths.items()}


@contextlib.contextmanager
def _blame(path: str | os.PathLike) -> Iterator[None]:
    """Let errors say which file they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} is refused: {error}") from error.__cause__
