"""Canonical Huffman coding: frequent symbols get short words. Chapter 07.

Han, Mao, Dally, "Deep compression: compressing deep neural networks with pruning, trained quantization and Huffman
coding", ICLR 2016, arXiv 1510.00149. The lengths of the words are optimal among those of at most 16 bits
(package-merge: Larmore, Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", J. ACM 37(3), 1990).
The words follow from the lengths: counted upwards in the order of length, then symbol. So a stream stores the lengths
only.

A stream is, all bits in the order of `bits`, numbers as varints and lists as in `records`:

=========  ===========================================================================================================
magic      the bytes ``HF`` and the version, 1
count      the number of symbols; a stream of none ends here
distinct   the number of distinct symbols − 1
chunk      the symbols of a chunk ÷ 8: the words are cut into chunks that are decoded side by side
tail       the bits of the last ``count mod chunk`` symbols
alphabet   the distinct symbols, as the gaps to the one before − 1 (the first: from −1), as a list
lengths    their words' lengths, from 1 to 16, as a list
chunks     the bits of every whole chunk, as a list
words      the symbols' words, padded to whole bytes by zeros
=========  ===========================================================================================================

A list is its minimum, in two bytes, then in one byte a width from 0 to 16, then each value less the minimum, packed in
so many bits. A lone symbol has the word 0: one bit each, so that a stream never decodes to more than 8 symbols a byte.
"""

from typing import TYPE_CHECKING

import numpy as np

from compress_lib.coding import bits, prefix_code, records

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"HF\x01"
MAX_LENGTH = prefix_code.LONGEST
CHUNK_BITS = 4096  # of an average chunk at least; its place in the list of chunks takes about 10
MAX_CHUNK = 4088  # symbols: even words of 16 bits stay below 65,536 bits


def entropy(counts: "np.ndarray | Tensor") -> float:
    """The entropy of the symbols' frequencies, ``H = −Σ p log₂ p``: no code takes fewer bits per symbol.

    Parameters
    ----------
    counts : numpy array or Tensor
        How often each symbol occurs.

    Returns
    -------
    float
        Bits per symbol; 0 if nothing occurs.

    Raises
    ------
    TypeError, ValueError
        If the counts are not integers of 0 or more, on one axis.
    """
    counts = _counts(counts)
    occurring = counts[counts > 0]
    return float(occurring @ np.log2(occurring.sum() / occurring) / max(occurring.sum(), 1))


def code_lengths(counts: "np.ndarray | Tensor", *, max_length: int = MAX_LENGTH) -> np.ndarray:
    """The lengths of the words that minimize ``Σ counts · length``, by package-merge.

    A word of n bits is bought as n coins of the values ``2^−1 … 2^−n``, each at the price of the symbol's count, and
    coins worth D − 1 in all, at the lowest price, give lengths with the Kraft sum 1. From the smallest value up, the
    coins and packages of one value, sorted by price, are packaged in twos for the next.

    Parameters
    ----------
    counts : numpy array or Tensor
        (S,) How often each symbol occurs, ``2^58`` in all at most.
    max_length : int
        The longest word allowed, from 1 to 16 bits.

    Returns
    -------
    numpy.ndarray
        (S,) uint8: 0 for symbols that do not occur, 1 for a lone one.

    Raises
    ------
    TypeError, ValueError
        If the counts are not integers of 0 or more, on one axis, or more symbols occur than there are words.
    """
    counts = _counts(counts)
    if not 1 <= max_length <= MAX_LENGTH:
        raise ValueError(f"max_length must be from 1 to {MAX_LENGTH}, got {max_length}")
    order = np.argsort(counts, kind="stable")[np.count_nonzero(counts == 0) :]
    if len(order) > 1 << max_length:
        raise ValueError(f"counts must have at most {1 << max_length:,} symbols that occur, got {len(order):,}")
    lengths = np.zeros(len(counts), np.uint8)
    if len(order) < 2:
        lengths[order] = 1
        return lengths
    packages, is_coin = np.empty(0, np.int64), []
    for _ in range(max_length):
        prices = np.append(counts[order], packages)
        ranking = np.argsort(prices, kind="stable")
        is_coin.append(ranking < len(order))
        packages = prices[ranking][: len(prices) // 2 * 2].reshape(-1, 2).sum(1)
    bought = 2 * (len(order) - 1)
    for level in reversed(is_coin):  # the cheapest coins of a value are those of the rarest symbols
        coins = int(np.count_nonzero(level[:bought]))
        lengths[order[:coins]] += 1
        bought = 2 * (bought - coins)
    return lengths


def encode(symbols: np.ndarray) -> bytes:
    """Encode symbols by the code that is optimal for their frequencies.

    Parameters
    ----------
    symbols : numpy array or Tensor
        Integers from 0 to 65,535; several axes are read in C order.

    Returns
    -------
    bytes

    Raises
    ------
    TypeError
        If the symbols are not integers.
    ValueError
        If one is outside 0 to 65,535.
    """
    symbols = bits.integers(symbols, (1 << 16) - 1, "symbols")
    count = len(symbols)
    if count == 0:
        return MAGIC + records.varint(0)
    counts = np.zeros(256**symbols.itemsize, np.int64)
    for i in range(0, count, prefix_code.WRITTEN):
        counts += np.bincount(symbols[i : i + prefix_code.WRITTEN], minlength=len(counts))
    lengths = code_lengths(counts)
    alphabet = np.flatnonzero(counts)
    total = int(counts @ lengths)
    chunk_bits = max(CHUNK_BITS, total // (prefix_code.LANES // 2))
    chunk = min(MAX_CHUNK, chunk_bits * count // total // 8 * 8)
    entries = np.zeros(len(counts), np.uint64)
    entries[alphabet] = prefix_code.canonical(lengths[alphabet]) | lengths[alphabet]
    stream, chunks = prefix_code.write(symbols, entries, chunk, total)
    head = (count, len(alphabet) - 1, chunk // 8, total - int(chunks.sum()))
    lists = (np.diff(alphabet, prepend=-1) - 1, lengths[alphabet], chunks)
    return b"".join([MAGIC, *map(records.varint, head), *map(records.numbers, lists), stream])


def decode(data: bytes) -> np.ndarray:
    """The symbols that `encode` encoded.

    Parameters
    ----------
    data : bytes
        The whole stream and nothing else.

    Returns
    -------
    numpy.ndarray
        (count,) uint16

    Raises
    ------
    ValueError
        If the data is not such a stream. Bits that were flipped inside the words can go unnoticed.
    """
    count, chunk, alphabet, lengths, ends, stream = _parse(data)
    if count == 0:
        return np.empty(0, np.uint16)
    if len(alphabet) == 1:  # its code is not complete: the word 1 stands for nothing
        if ends[-1] != count or any(stream):
            raise ValueError(f"data must have {count} zero bits for {count} times one symbol")
        return np.full(count, alphabet[0], np.uint16)
    alphabet = alphabet.astype(np.uint8 if alphabet[-1] < 256 else np.uint16)
    return prefix_code.read(stream, alphabet, lengths.astype(np.uint8), chunk, ends, count)


def table_nbytes(data: bytes) -> int:
    """The bytes of a stream that are not words: the code's table, the chunks' list and the numbers before them.

    Raises
    ------
    ValueError
        If the data is not such a stream; the words are not looked at.
    """
    return len(data) - len(_parse(data)[-1])


def _parse(data: bytes) -> tuple[int, int, np.ndarray, np.ndarray, np.ndarray, bytes]:
    """Of a stream: count, chunk, alphabet, lengths, the bits where the chunks end, and the words; all checked."""
    reader = records.Reader(data)
    if reader.read(len(MAGIC)) != MAGIC:
        raise ValueError(f"data must begin with {MAGIC!r}, a Huffman stream of version 1, got {bytes(data[:3])!r}")
    count = reader.varint()
    if count == 0:
        reader.end()
        return 0, 0, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), b""
    distinct, chunk, tail = reader.varint() + 1, 8 * reader.varint(), reader.varint()
    if count > 8 * reader.left() or distinct > min(count, 1 << 16):
        raise ValueError(f"data of {len(data)} bytes cannot hold {count} symbols, {distinct} of them distinct")
    if not 8 <= chunk <= MAX_CHUNK or (tail > 0) != (count % chunk > 0):
        raise ValueError(f"data has chunks of {chunk} symbols and {tail} bits for the last {count} mod {chunk}")
    alphabet = np.cumsum(reader.numbers(distinct) + 1) - 1
    lengths = reader.numbers(distinct)
    chunks = reader.numbers(count // chunk)
    if tail:
        chunks = np.append(chunks, tail)
    if alphabet[-1] >= 1 << 16:
        raise ValueError(f"data has symbols up to {alphabet[-1]:,}, above 65,535")
    if not 1 <= lengths.min() <= lengths.max() <= MAX_LENGTH or _kraft(lengths) != (1 if distinct > 1 else 0.5):
        raise ValueError(
            f"data has word lengths from {lengths.min()} to {lengths.max()} of Kraft sum {_kraft(lengths)}"
        )
    ends = np.cumsum(chunks)
    total = int(ends[-1])
    stream = reader.read((total + 7) // 8)
    reader.end()
    if stream[-1] & (1 << -total % 8) - 1:
        raise ValueError(f"data must end in {-total % 8} zero bits, got a last byte of {stream[-1]:#010b}")
    return count, chunk, alphabet, lengths, ends, stream


def _counts(counts: "np.ndarray | Tensor") -> np.ndarray:
    counts = counts.cpu().numpy() if hasattr(counts, "cpu") else np.asarray(counts)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"counts must be integers, got {counts.dtype}")
    if counts.ndim != 1 or (counts < 0).any() or counts.sum(dtype=float) > 1 << 58:
        raise ValueError("counts must have one axis, no negative value and a sum of at most 2^58")
    return counts.astype(np.int64)


def _kraft(lengths: np.ndarray) -> float:
    return float(np.exp2(-lengths).sum())
