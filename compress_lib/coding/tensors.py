"""One tensor as bytes, bit for bit, in the smallest of several encodings. Chapter 07.

After Han, Mao, Dally, "Deep compression: compressing deep neural networks with pruning, trained quantization and
Huffman coding", ICLR 2016, arXiv 1510.00149: the values that are not zero and the gaps between them, values as indices
of a codebook, indices and gaps in Huffman's code. Values are taken as `patterns` of bits: −0, NaN and infinities come
back as they were. (So prune by ``torch.where(mask, w, 0)``: ``w * mask`` makes −0 of what was negative, a value to be
stored.)

A record, everything little-endian, numbers as varints (`records`):

==========  ==========================================================================================================
type        one byte: the tensor's type, its place in ``patterns.TYPES``, plus 16 times that of the type in which its
            values are stored, a narrower one if that loses nothing
form        one byte: 0 values one by one, 1 a codebook, 2 a base; plus 4 times the bits of a gap, 0 if there are none
shape       the number of axes, then the size of each
entries     only with gaps: how many values are stored, fillers (`sparse_index`) included; without gaps all are
gaps        only with gaps: one for each entry, a stream (`streams`)
dictionary  codebook: how many values it has, then these; base: one value, the lowest
values      the values one by one; or a stream of their indices in the codebook, or of their distances from the base
==========  ==========================================================================================================

In any form an entry takes one bit at least, and a gap reaches 256 positions at most. So a record decodes to no more
than 2,048 values a byte, and 256 besides: no few bytes can claim a large tensor, a constant one either.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress_lib.coding import patterns, records, sparse_index, streams

if TYPE_CHECKING:
    from torch import Tensor

_RAW, _CODEBOOK, _BASE = range(3)


@dataclass
class Parts:
    """What the bytes of a record are for; all but the first two add up to its length.

    Attributes
    ----------
    size, entries : int
        Values of the tensor, and those that are stored, fillers included.
    codes : int
        The values one by one, or the words or packed bits that stand for them.
    indices : int
        The words or packed bits of the gaps.
    codebook : int
        The codebook's values.
    tables : int
        What Huffman streams take besides their words.
    header : int
        The rest.
    """

    size: int
    entries: int
    codes: int
    indices: int
    codebook: int
    tables: int
    header: int


def encode(tensor: "Tensor", *, index_bits: int | None = None, huffman: bool = True) -> bytes:
    """The smallest record of a tensor.

    Parameters
    ----------
    tensor : Tensor
        Dense, of any shape and a type in ``patterns.TYPES``.
    index_bits : int, optional
        Bits of a gap, from 1 to 8, where gaps are stored; without it those that make the record smallest.
    huffman : bool
        Whether streams may be in Huffman's code.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        If it is no dense tensor of such a type.
    ValueError
        If the bits are outside 1 to 8.
    """
    if index_bits is not None and not 1 <= index_bits <= sparse_index.MOST_BITS:
        raise ValueError(f"index_bits must be from 1 to {sparse_index.MOST_BITS}, got {index_bits}")
    source = _Source(tensor)
    gaps = sparse_index.histograms(source.positions, source.size) if len(source.positions) < source.size else {}
    if gaps and index_bits:
        gaps = {index_bits: gaps[index_bits]}
    bounds = [
        (source.least(form, counts, huffman), form, width)
        for form in source.symbols
        for width, counts in {0: None, **gaps}.items()
    ]
    (_, form, width), *others = sorted(bounds)
    best = source.record(form, width, huffman)
    for bound, form, width in others:
        if bound >= len(best):
            break  # neither this one nor a later one is shorter
        best = min(best, source.record(form, width, huffman), key=len)
    return best


def decode(data: bytes) -> "Tensor":
    """The tensor of a record: on the CPU, contiguous, the same bits.

    Raises
    ------
    ValueError
        If the data is not a whole record and nothing else.
    """
    record = _parse(data)
    values = patterns.widened(record.entry_patterns(), record.stored, record.dtype)
    if record.gaps:
        entries, values = values, np.zeros(record.size, values.dtype)
        values[sparse_index.decode(record.gaps.decode(), record.size, record.index_bits)] = entries
    return patterns.tensor(values, record.dtype, record.shape)


def describe(data: bytes) -> tuple[str, tuple[int, ...]]:
    """The type and the shape of a record's tensor. Streams are not decoded; what else is wrong raises a ValueError."""
    record = _parse(data)
    return record.dtype, record.shape


def parts(data: bytes) -> Parts:
    """What the bytes of a record are for. Streams are not decoded; what else is wrong raises a ValueError."""
    record = _parse(data)
    found = [stream for stream in (record.gaps, record.values) if stream]
    tables = sum(stream.table_nbytes() for stream in found)
    indices = len(record.gaps.content) - record.gaps.table_nbytes() if record.gaps else 0
    codes = len(record.values.content) - record.values.table_nbytes() if record.values else record.dictionary.nbytes
    codebook = record.dictionary.nbytes if record.form == _CODEBOOK else 0
    header = len(data) - codes - indices - codebook - tables
    return Parts(record.size, record.entries, codes, indices, codebook, tables, header)


def entropy_bound(data: bytes) -> float:
    """The bytes that an ideal code, symbol by symbol, would take for a record's streams, without tables and headers.

    ``n · H`` bits of each stream, H the entropy of its symbols' frequencies; codebooks and what is stored value by
    value as they are.

    Raises
    ------
    ValueError
        As `decode`.
    """
    record = _parse(data)
    plain = 0 if record.form == _BASE else record.dictionary.nbytes
    return plain + sum(stream.entropy_bound() for stream in (record.gaps, record.values) if stream)


class _Source:
    """A tensor, and in each form the symbols that stand for its values, and which of these stands for zero."""

    def __init__(self, tensor: "Tensor"):
        self.dtype, values = patterns.of(tensor)
        self.shape, self.size, self.positions = tuple(tensor.shape), len(values), np.flatnonzero(values)
        distinct = patterns.distinct(values, self.positions)
        if distinct is None:
            self.stored, values = patterns.narrowed(values, self.dtype)
        else:  # conversions of the codebook alone are faster
            codebook, codes = distinct
            self.stored, codebook = patterns.narrowed(codebook, self.dtype)
            values = codebook[codes]
        self.symbols, self.zero, self.dictionary = {_RAW: values}, {_RAW: 0}, {_RAW: values[:0]}
        if distinct is not None:
            self.symbols[_CODEBOOK], self.zero[_CODEBOOK], self.dictionary[_CODEBOOK] = (
                codes,
                len(codebook) - 1,
                codebook,
            )
        if self.size and patterns.is_integer(self.dtype):
            self._add_base(values)
        self.counts = {form: np.bincount(symbols) for form, symbols in self.symbols.items() if form != _RAW}

    def _add_base(self, values: np.ndarray) -> None:
        numbers = patterns.integers(values, self.stored)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < 1 << 16:
            self.dictionary[_BASE] = np.array([low], numbers.dtype).view(values.dtype)
            distances = values - self.dictionary[_BASE]  # modulo the width of the type, so never negative
            self.symbols[_BASE], self.zero[_BASE] = distances.astype(np.uint16), -low

    def least(self, form: int, gaps: np.ndarray | None, huffman: bool) -> float:
        """Bytes that the form takes at least, with gaps that occur so often, or without."""
        entries = self.size if gaps is None else int(gaps.sum())
        total = 0.0 if gaps is None else streams.least(gaps, huffman)
        width = self.symbols[_RAW].itemsize
        if form == _RAW:
            return total + entries * width
        counts = self.counts[form]
        if gaps is not None:
            counts = counts.copy()
            counts[self.zero[form]] = entries - len(self.positions)
        if form == _CODEBOOK:
            total += np.count_nonzero(counts) * width
        return total + streams.least(counts, huffman)

    def record(self, form: int, width: int, huffman: bool) -> bytes:
        """The record in a form, with gaps of so many bits, or without if 0."""
        types = patterns.TYPES.index(self.dtype) + 16 * patterns.TYPES.index(self.stored)
        fields = [bytes([types, form + 4 * width]), *map(records.varint, (len(self.shape), *self.shape))]
        symbols, dictionary = self.symbols[form], self.dictionary[form]
        if width:
            gaps, is_filler = sparse_index.encode(self.positions, self.size, width)
            nonzero, symbols = symbols[self.positions], np.full(len(gaps), self.zero[form], symbols.dtype)
            symbols[~is_filler] = nonzero
            fields += [records.varint(len(gaps)), streams.encode(gaps, huffman)]
            if form == _CODEBOOK and not is_filler.any():
                dictionary = dictionary[:-1]  # no entry is zero
        if form == _CODEBOOK:
            fields.append(records.varint(len(dictionary)))
        fields += [_plain(dictionary), _plain(symbols) if form == _RAW else streams.encode(symbols, huffman)]
        return b"".join(fields)


def _plain(values: np.ndarray) -> bytes:
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


@dataclass
class _Record:
    """A record taken apart. ``values`` is None where ``dictionary`` holds them one by one."""

    dtype: str
    stored: str
    shape: tuple[int, ...]
    form: int
    index_bits: int
    entries: int
    gaps: streams.Stream | None
    dictionary: np.ndarray
    values: streams.Stream | None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def entry_patterns(self) -> np.ndarray:
        """The entries' patterns in the type they are stored in."""
        if self.values is None:  # raw
            return self.dictionary
        symbols = self.values.decode()
        largest = int(symbols.max(initial=0))
        if self.form == _CODEBOOK:
            if len(symbols) and largest >= len(self.dictionary):
                raise ValueError(f"data has the index {largest} in a codebook of {len(self.dictionary)} values")
            return self.dictionary[symbols]
        lowest = patterns.integers(self.dictionary, self.stored)
        if int(lowest[0]) + largest > np.iinfo(lowest.dtype).max:
            raise ValueError(f"data has {int(lowest[0]) + largest} as {self.stored}")
        return self.dictionary + symbols.astype(self.dictionary.dtype)


def _parse(data: bytes) -> _Record:
    """Take a record apart: everything in it is checked but what its streams say."""
    reader = records.Reader(data)
    types, form = reader.read(2)
    dtype, stored = patterns.TYPES[types % 16], patterns.TYPES[types // 16]
    index_bits, form = divmod(form, 4)
    if stored != dtype and stored not in patterns.NARROWER.get(dtype, ()):
        raise ValueError(f"data has values of {dtype} stored as {stored}")
    if form > _BASE or (form == _BASE and not patterns.is_integer(dtype)) or index_bits > sparse_index.MOST_BITS:
        raise ValueError(f"data has values of {dtype} in form {form} with gaps of {index_bits} bits")
    axes = reader.varint()
    if axes > patterns.MOST_AXES:
        raise ValueError(f"data has a shape of {axes} axes, above {patterns.MOST_AXES}")
    shape = tuple(reader.varint() for _ in range(axes))
    entries = size = math.prod(shape)
    if index_bits:
        entries = reader.varint()
    if entries > min(size, 8 * len(data)) or (index_bits and size >= (entries + 1) << index_bits):
        raise ValueError(f"data of {len(data)} bytes cannot hold the shape {shape} in {entries} entries")
    if math.prod(max(extent, 1) for extent in shape) > records.LARGEST:  # an empty one, but torch multiplies these
        raise ValueError(f"data has the shape {shape}, beyond 2^56")
    gaps = streams.Stream.read(reader, entries) if index_bits else None
    count = reader.varint() if form == _CODEBOOK else 1 if form == _BASE else entries
    kind = patterns.unsigned(stored)
    dictionary = np.frombuffer(reader.read(count * kind.itemsize), kind.newbyteorder("<")).astype(kind)
    values = streams.Stream.read(reader, entries) if form != _RAW else None
    reader.end()
    return _Record(dtype, stored, shape, form, index_bits, entries, gaps, dictionary, values)
