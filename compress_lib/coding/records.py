"""Records of bytes: numbers of variable length, names, lists, and a reader that never leaves its data. Chapter 07.

A varint is a number in base 128, the lowest digit first, one a byte; all but the last byte have the highest bit set.
"""

import numpy as np

from compress_lib.coding import bits

LARGEST = (1 << 56) - 1  # of a varint: no sum of a few overflows 64 bits


def varint(number: int) -> bytes:
    """A number from 0 to ``2^56 − 1`` in 1 to 8 bytes.

    Raises
    ------
    ValueError
        If it is outside.
    """
    if not 0 <= number <= LARGEST:
        raise ValueError(f"number must be from 0 to 2^56 − 1, got {number}")
    low = bytearray()
    while number >= 128:
        low.append(number & 127 | 128)
        number >>= 7
    return bytes([*low, number])


def text(string: str) -> bytes:
    """A string: its length in bytes as a varint, then UTF-8."""
    content = string.encode()
    return varint(len(content)) + content


def numbers(values: np.ndarray) -> bytes:
    """Integers from 0 to 65,535: the minimum in two bytes, a width in one, then the rests, packed in so many bits."""
    lowest = int(values.min()) if len(values) else 0
    width = (int(values.max()) - lowest).bit_length() if len(values) else 0
    packed = bits.pack(values - lowest, width) if width else b""
    return lowest.to_bytes(2, "big") + bytes([width]) + packed


class Reader:
    """Goes through the data from the front, never beyond its end. What does not fit raises a ValueError."""

    def __init__(self, data: bytes):
        self.data, self.at = bytes(memoryview(data)), 0

    def left(self) -> int:
        """The bytes that are left."""
        return len(self.data) - self.at

    def read(self, count: int) -> bytes:
        """The next so many bytes."""
        if count > self.left():
            raise ValueError(f"data is truncated: {count} bytes should follow byte {self.at}, not {self.left()}")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        """What `varint` wrote."""
        number = 0
        for shift in range(0, 56, 7):
            (byte,) = self.read(1)
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise ValueError(f"data has a number of more than 8 bytes before byte {self.at}")

    def text(self) -> str:
        """What `text` wrote."""
        content = self.read(self.varint())
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"data has a text that is not UTF-8 before byte {self.at}") from None

    def numbers(self, count: int) -> np.ndarray:
        """What `numbers` wrote, as int64."""
        lowest, width = int.from_bytes(self.read(2), "big"), self.read(1)[0]
        if width > 16:
            raise ValueError(f"data has a list with a width of {width} bits, above 16")
        if not count and (lowest or width):
            raise ValueError(f"data has a list of nothing with a lowest value of {lowest} and a width of {width}")
        values = bits.unpack(self.read(bits.nbytes(count, width)), width, count) if width else np.zeros(count, int)
        return values.astype(np.int64) + lowest

    def end(self) -> None:
        """Refuse data that goes on."""
        if self.left():
            raise ValueError(f"data must end after byte {self.at}, got {self.left()} more")
