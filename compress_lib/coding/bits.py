"""Bit packing: unsigned integers of 1 to 16 bits each, one after the other, without gaps. Chapter 07.

The order is that of reading: the first value comes first, each value's most significant bit first, and a byte is filled
from its most significant bit (as `numpy.packbits` does). What is left of the last byte is zero. The 3-bit values 5, 1,
6 are the bits ``101 001 110``, in bytes ``10100111 0·0000000``.
"""

import numpy as np

BLOCK = 1 << 15  # values at a time, whole bytes whatever the width: the bits, a byte each, stay in the cache


def integers(values: np.ndarray, largest: int, name: str = "values") -> np.ndarray:
    """An integer array or tensor as a flat array of the narrowest unsigned type, checked.

    Parameters
    ----------
    values : numpy array or Tensor
        Integers of any type and shape.
    largest : int
        The largest value allowed, at most 65,535.
    name : str
        What an error calls the values.

    Returns
    -------
    numpy.ndarray
        1-D, contiguous, uint8 if the values fit, else uint16.

    Raises
    ------
    TypeError
        If the values are not integers.
    ValueError
        If one is negative or above ``largest``.
    """
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().numpy()
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {values.dtype}")
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low < 0 or high > largest:
        raise ValueError(f"{name} must be from 0 to {largest:,}, got {low if low < 0 else high:,}")
    return values.astype(np.uint8 if high < 256 else np.uint16).reshape(-1)


def nbytes(count: int, width: int) -> int:
    """The bytes that so many values of so many bits take: ``⌈count · width / 8⌉``."""
    return (count * width + 7) // 8


def pack(values: np.ndarray, width: int) -> bytes:
    """Pack integers into ``⌈count · width / 8⌉`` bytes.

    Parameters
    ----------
    values : numpy array or Tensor
        Integers from 0 to ``2^width − 1``; several axes are read in C order.
    width : int
        Bits of each, from 1 to 16.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        If the values are not integers.
    ValueError
        If the width is outside 1 to 16, or a value does not fit.
    """
    _check_width(width)
    flat = integers(values, (1 << width) - 1)
    packed = []
    for i in range(0, len(flat), BLOCK):
        pairs = flat[i : i + BLOCK].astype(">u2").view(np.uint8).reshape(-1, 2)
        packed.append(np.packbits(np.unpackbits(pairs, axis=1)[:, 16 - width :]).tobytes())
    return b"".join(packed)


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """The integers that `pack` packed.

    Parameters
    ----------
    data : bytes
        Of exactly ``⌈count · width / 8⌉`` bytes.
    width : int
        Bits of each value, from 1 to 16.
    count : int
        The number of values.

    Returns
    -------
    numpy.ndarray
        (count,) uint16

    Raises
    ------
    ValueError
        If the width is outside 1 to 16, the length of the data is another, or the bits after the last value are not 0.
    """
    _check_width(width)
    if count < 0 or len(data) != nbytes(count, width):
        needed = nbytes(count, width)
        raise ValueError(f"data must have {needed} bytes for {count} values of {width} bits, got {len(data)}")
    unused = 8 * len(data) - count * width
    if unused and data[-1] & ((1 << unused) - 1):
        raise ValueError(f"data must end in {unused} zero bits, got a last byte of {data[-1]:#010b}")
    packed = np.frombuffer(data, np.uint8)
    values = np.empty(count, np.uint16)
    for i in range(0, count, BLOCK):
        block = values[i : i + BLOCK]
        bits = np.zeros((len(block), 16), np.uint8)
        bits[:, 16 - width :] = np.unpackbits(packed[i * width // 8 :], count=block.size * width).reshape(-1, width)
        block[:] = np.packbits(bits).view(">u2")
    return values


def _check_width(width: int) -> None:
    if not 1 <= width <= 16:
        raise ValueError(f"width must be from 1 to 16 bits, got {width}")
