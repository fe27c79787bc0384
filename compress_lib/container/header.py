"""The header of a file: what is where, and whether the file is whole; `archive` shows its form. Chapter 07."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from compress_lib.coding import records

MAGIC = b"CNET"
VERSION = 1
_START = len(MAGIC) + 1 + 4 + 4  # bytes before the header proper


@dataclass
class Section:
    """A layer's place in the file, its checksum, and the bytes of its records by the tensors' full names."""

    start: int
    checksum: int
    lengths: dict[str, int]

    @property
    def nbytes(self) -> int:
        """The bytes of the section."""
        return sum(self.lengths.values())


@dataclass
class Header:
    """What a header says.

    Attributes
    ----------
    metadata : dict
        The JSON object.
    nbytes : int
        The bytes before the first section.
    sections : dict of str to Section
        By layer.
    owners : dict of str to str
        For each tensor the name under which it is stored: another one if it is tied.
    """

    metadata: dict
    nbytes: int
    sections: dict[str, Section] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)


def join(layer: str, local: str) -> str:
    """A tensor's full name."""
    return f"{layer}.{local}" if layer else local


def text(metadata: Mapping) -> bytes:
    """The metadata as JSON; a TypeError or ValueError refuses what JSON cannot hold."""
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, got {type(metadata).__name__}")
    try:
        return json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata must be what JSON can hold: {error}") from None


def write(metadata: bytes, layers: Mapping[str, Mapping[str, bytes | str]]) -> bytes:
    """The whole file.

    Parameters
    ----------
    metadata : bytes
        JSON.
    layers : mapping of str to mapping of str to bytes or str
        By layer and the tensor's name in it, its record, or the full name of an earlier tensor to which it is tied.
    """
    fields = [records.varint(len(metadata)), metadata, records.varint(len(layers))]
    sections = []
    for layer, found in layers.items():
        section = b"".join(record for record in found.values() if isinstance(record, bytes))
        fields += [records.text(layer), zlib.crc32(section).to_bytes(4, "little"), records.varint(len(found))]
        for local, record in found.items():
            place = (
                records.varint(len(record)) if isinstance(record, bytes) else records.varint(0) + records.text(record)
            )
            fields += [records.text(local), place]
        sections.append(section)
    content = b"".join(fields)
    start = MAGIC + bytes([VERSION]) + len(content).to_bytes(4, "little")
    return b"".join([start, zlib.crc32(start + content).to_bytes(4, "little"), content, *sections])


def read(file: BinaryIO, size: int) -> Header:
    """The header of a file of so many bytes, checked; no more than the header is read.

    Raises
    ------
    ValueError
        If it is no such header, or the file is not as long as it says.
    """
    start = file.read(_START)
    if start[: len(MAGIC)] != MAGIC:
        raise ValueError(f"it must begin with {MAGIC!r}, got {start[: len(MAGIC)]!r}")
    if len(start) < _START:
        raise ValueError(f"it is truncated: {len(start)} bytes in place of the first {_START}")
    if start[len(MAGIC)] != VERSION:
        raise ValueError(f"it is of version {start[len(MAGIC)]}; this library reads version {VERSION}")
    length, checksum = (int.from_bytes(start[i : i + 4], "little") for i in (_START - 8, _START - 4))
    if _START + length > size:
        raise ValueError(f"it is truncated, or its header is damaged: {length} bytes of header, {size} in all")
    content = file.read(length)
    if zlib.crc32(start[:-4] + content) != checksum:
        raise ValueError("its header is damaged: the checksum does not match")
    reader = records.Reader(content)
    header = Header(_metadata(reader.read(reader.varint())), _START + length)
    end = header.nbytes
    for _ in range(reader.varint()):
        layer = reader.text()
        if layer in header.sections:
            raise ValueError(f"it has the layer {layer!r} twice")
        header.sections[layer] = _section(reader, layer, end, header.owners)
        end += header.sections[layer].nbytes
    reader.end()
    if end != size:
        raise ValueError(f"it must have {end} bytes, got {size}")
    return header


def _section(reader: records.Reader, layer: str, start: int, owners: dict[str, str]) -> Section:
    """The next layer's place; its tensors are added to the owners."""
    section = Section(start, int.from_bytes(reader.read(4), "little"), {})
    for _ in range(reader.varint()):
        name, length = join(layer, reader.text()), reader.varint()
        if name in owners:
            raise ValueError(f"it has the tensor {name!r} twice")
        if length:
            section.lengths[name] = length
            owners[name] = name
        else:
            owner = reader.text()
            if owners.get(owner) != owner:
                raise ValueError(f"it has {name!r} as the same tensor as {owner!r}, which is not stored before it")
            owners[name] = owner
    return section


def _metadata(content: bytes) -> dict:
    try:
        metadata = json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its metadata are no JSON: {error}") from None
    if type(metadata) is not dict:
        raise ValueError(f"its metadata must be an object, got {type(metadata).__name__}")
    return metadata


def _refuse_constant(name: str) -> None:
    """Python's reader of JSON would take NaN and Infinity, which are none."""
    raise ValueError(name)
