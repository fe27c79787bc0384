"""The relative index of a sparse array: the gap from each weight to the next, in few bits. Chapter 07.

Han, Mao, Dally, "Deep compression: compressing deep neural networks with pruning, trained quantization and Huffman
coding", ICLR 2016, arXiv 1510.00149, section 2 and figure 2. A gap is the distance from the entry before (the first:
from position −1), at least 1, and is stored less 1, so that b bits reach ``2^b`` positions. (The paper calls 8 "the
largest 3-bit unsigned number". That is 7, and its figure comes out only so.) Where the next weight is farther away, a
filler comes first: an entry whose weight is zero, as far as the bits reach. It costs a weight and a gap.

Fillers also go on behind the last weight until the end of the array, taken as one more weight, is within reach. So the
size of the array is bounded by its entries: a short record cannot claim a large array.
"""

import numpy as np

MOST_BITS = 8


def fillers_per_weight(density: float, bits: int) -> float:
    """How many fillers a weight takes, on average over weights placed at random.

    A filler is due after every ``2^b`` zeros in a row. If each position holds a weight with probability p, so many are
    zero with probability ``q = (1 − p)^(2^b)``, and then the count begins anew: ``q + q² + … = q / (1 − q)``.

    Parameters
    ----------
    density : float
        The fraction p of weights that are not zero, in (0, 1].
    bits : int
        Bits of a gap, from 1 to 8.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a number is outside its range.
    """
    _check_bits(bits)
    if not 0 < density <= 1:
        raise ValueError(f"density must be above 0 and at most 1, got {density}")
    q = (1 - density) ** (1 << bits)
    return q / (1 - q)


def encode(positions: np.ndarray, size: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The gaps between positions.

    Parameters
    ----------
    positions : numpy array
        (K,) integers, ascending, from 0 to ``size − 1``.
    size : int
        The length of the array that they are positions in.
    bits : int
        Bits of a gap, from 1 to 8.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        For each entry, the K weights and the fillers in their order, the gap less 1, uint8, and whether it is a filler,
        bool.

    Raises
    ------
    ValueError
        If the positions are not ascending or outside the array, or the bits are outside 1 to 8.
    """
    _check_bits(bits)
    zeros = _zeros(positions, size)
    fillers = zeros >> bits
    at = np.cumsum(fillers[:-1] + 1) - 1
    entries = len(positions) + int(fillers.sum())
    gaps, is_filler = np.full(entries, (1 << bits) - 1, np.uint8), np.ones(entries, bool)
    gaps[at] = zeros[:-1] & (1 << bits) - 1
    is_filler[at] = False
    return gaps, is_filler


def decode(gaps: np.ndarray, size: int, bits: int) -> np.ndarray:
    """The positions of all entries, fillers included.

    Parameters
    ----------
    gaps : numpy array
        (E,) The gaps less 1, as from `encode`.
    size : int
        The length of the array.
    bits : int
        Bits of a gap, from 1 to 8.

    Returns
    -------
    numpy.ndarray
        (E,) int64, ascending.

    Raises
    ------
    ValueError
        If a gap has more bits, or the entries go beyond the end of the array or do not reach it.
    """
    _check_bits(bits)
    reach = 1 << bits
    if len(gaps) and int(gaps.max()) >= reach:
        raise ValueError(f"gaps must be below {reach} for {bits} bits, got {gaps.max()}")
    positions = np.cumsum(gaps, dtype=np.int64) + np.arange(len(gaps))
    last = int(positions[-1]) if len(gaps) else -1
    if not last < size <= last + reach:
        raise ValueError(f"gaps must reach the size, {size:,}, within a gap of {reach}, got to position {last:,}")
    return positions


def histograms(positions: np.ndarray, size: int) -> dict[int, np.ndarray]:
    """For each number of bits from 1 to 8, how often `encode` gives each gap; their sum is the number of entries."""
    zeros = _zeros(positions, size)
    far, tail = int((zeros >> MOST_BITS).sum()), int(zeros[-1])
    near = np.bincount(zeros & (1 << MOST_BITS) - 1, minlength=1 << MOST_BITS)
    found = {}
    for bits in range(1, MOST_BITS + 1):
        folded = near.reshape(-1, 1 << bits)  # row r: gaps that take r fillers
        counts = folded.sum(0)
        counts[tail & (1 << bits) - 1] -= 1  # behind the last weight there are fillers only
        counts[-1] += np.arange(len(folded)) @ folded.sum(1) + (far << MOST_BITS - bits)
        found[bits] = counts
    return found


def _zeros(positions: np.ndarray, size: int) -> np.ndarray:
    """The zeros before each position, and those behind the last."""
    zeros = np.diff(positions, prepend=-1, append=size) - 1
    if zeros.min() < 0:
        raise ValueError(f"positions must be ascending and from 0 to {size - 1:,}")
    return zeros


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"bits must be from 1 to {MOST_BITS}, got {bits}")
