"""A stream of small numbers, packed or in Huffman's code, whichever is shorter. Used by `tensors`. Chapter 07.

One byte says the bits of each number, from 1 to 16; then they follow in so many bits each (`bits`). Or it is 0; then a
varint says the length of the Huffman stream that follows (`huffman`). Either way a number takes one bit at least.
"""

from dataclasses import dataclass

import numpy as np

from compress_lib.coding import bits, huffman, records


def encode(symbols: np.ndarray, use_huffman: bool) -> bytes:
    """The shorter stream of (N,) uint8 or uint16; packed in any case unless Huffman's code may be used."""
    width = _width(symbols)
    if use_huffman:
        coded = huffman.encode(symbols)
        coded = b"\0" + records.varint(len(coded)) + coded
        if len(coded) <= bits.nbytes(len(symbols), width):
            return coded
    return bytes([width]) + bits.pack(symbols, width)


def least(counts: np.ndarray, use_huffman: bool) -> float:
    """The bytes below which no stream gets whose symbols occur so often."""
    count = int(counts.sum())
    if use_huffman:
        return max(1.0, huffman.entropy(counts)) * count / 8
    return bits.nbytes(count, _width(np.flatnonzero(counts)))


def _width(symbols: np.ndarray) -> int:
    return max(1, int(symbols.max(initial=0)).bit_length())


@dataclass
class Stream:
    """A stream that was found in a record, not decoded: ``width`` 0 stands for Huffman's code."""

    width: int
    count: int
    content: bytes

    @classmethod
    def read(cls, reader: records.Reader, count: int) -> "Stream":
        """The stream of so many numbers that comes next."""
        width = reader.read(1)[0]
        if width > 16:
            raise ValueError(f"data has a stream of {width} bits a number, above 16")
        return cls(width, count, reader.read(bits.nbytes(count, width) if width else reader.varint()))

    def decode(self) -> np.ndarray:
        """The numbers, (N,) uint16."""
        symbols = bits.unpack(self.content, self.width, self.count) if self.width else huffman.decode(self.content)
        if len(symbols) != self.count:
            raise ValueError(f"data has a stream of {len(symbols)} numbers in place of {self.count}")
        return symbols

    def table_nbytes(self) -> int:
        """The bytes of the content that stand for no number: a Huffman stream's tables."""
        return 0 if self.width else huffman.table_nbytes(self.content)

    def entropy_bound(self) -> float:
        """``n · H / 8`` bytes, H the entropy of the numbers' frequencies."""
        return self.count * huffman.entropy(np.bincount(self.decode())) / 8
