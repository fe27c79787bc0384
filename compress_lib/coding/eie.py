"""Interleaved compressed sparse columns, and what they cost in cycles: EIE's format in numpy. Chapter 07.

Han, Liu, Mao, Pu, Pedram, Horowitz, Dally, "EIE: efficient inference engine on compressed deep neural network", ISCA
2016, arXiv 1602.01528. Row i of the matrix belongs to processing element (PE) i mod N. A PE stores its part of a column
as a list of entries, a byte each: v, the 4-bit index of the weight in a codebook, and z, the number of zeros before it,
also of 4 bits. Where there are more than 15, an entry with v = 0 and z = 15 is inserted, padding, which is itself a
zero and takes a row. The column 0, 0, 1, 2, 18 zeros, 3 has the entries (v, z)

    (1, 2)  (2, 0)  (0, 15)  (3, 2).

A pointer says where each column starts. With a fraction p of weights left at random, a run exceeds 15 with probability
``q = (1 − p)^16``, and there are q + q² + … = q/(1 − q) padding entries per weight, in columns without end. In one of L
rows there is no room for long runs: ``Σ_t q^t (1 − 16t/L)``, over the t with 16t < L. So more PEs need less padding.

To multiply, non-zero activations are broadcast one after the other, and each PE works through its entries of that
column. What one PE has more of than another, queues in front of the PEs even out; `simulate` counts the cycles.
"""

from dataclasses import dataclass

import numpy as np

_LONGEST = 15  # the zeros that z can count


@dataclass(frozen=True, eq=False)
class Columns:
    """A matrix in interleaved CSC.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    entries : tuple of numpy.ndarray
        For each PE, column after column, (entries,) uint8: ``16 v + z``.
    pointers : numpy.ndarray
        (PEs, columns + 1): where each column starts in the PE's entries, and where the last one ends. uint16 as in EIE,
        uint32 where a PE has more than 65,535 entries.
    """

    shape: tuple[int, int]
    entries: tuple[np.ndarray, ...]
    pointers: np.ndarray

    @property
    def pes(self) -> int:
        """The number of PEs."""
        return len(self.entries)

    @property
    def nbytes(self) -> int:
        """Bytes of entries and pointers; the codebook is not counted."""
        return sum(entries.nbytes for entries in self.entries) + self.pointers.nbytes

    @property
    def weights(self) -> int:
        """Entries that are weights."""
        return sum(int(np.count_nonzero(entries >> 4)) for entries in self.entries)

    @property
    def padding(self) -> int:
        """Entries that are padding."""
        return sum(map(len, self.entries)) - self.weights


def encode(codes: np.ndarray, pes: int) -> Columns:
    """Encode a matrix of codebook indices.

    Parameters
    ----------
    codes : numpy.ndarray
        (rows, columns), integers from 0 to 15; 0 is the weight zero, which is not stored.
    pes : int
        N, at least 1.

    Returns
    -------
    Columns

    Raises
    ------
    TypeError, ValueError
        If the codes are not such a matrix, or ``pes`` is below 1.
    """
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise TypeError(f"codes must be integers, got {codes.dtype}")
    if codes.ndim != 2 or not codes.size:
        raise ValueError(f"codes must be a matrix, not empty, got shape {codes.shape}")
    if codes.min() < 0 or codes.max() > 15:
        raise ValueError(f"codes must be from 0 to 15, got {codes.min()} to {codes.max()}")
    if pes < 1:
        raise ValueError(f"pes must be at least 1, got {pes}")
    entries, pointers = zip(*(_encode(codes[pe::pes]) for pe in range(pes)), strict=True)
    narrow = np.uint16 if max(map(len, entries)) <= np.iinfo(np.uint16).max else np.uint32
    return Columns(codes.shape, entries, np.array(pointers).astype(narrow))


def _encode(part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries and pointers of one PE's rows."""
    column, row = np.nonzero(part.T)
    first = np.append(True, column[1:] != column[:-1])[: len(column)]  # of its column
    zeros = row - np.where(first, -1, np.append(0, row[:-1])[: len(row)]) - 1
    needed = zeros // (_LONGEST + 1) + 1  # an entry for every 16 zeros, and the weight's own
    ends = np.cumsum(needed)
    entries = np.full(needed.sum(), _LONGEST, np.uint8)
    entries[ends - 1] = part[row, column].astype(np.uint8) << 4 | (zeros % (_LONGEST + 1)).astype(np.uint8)
    per_column = np.bincount(column, weights=needed, minlength=part.shape[1]).astype(np.int64)
    return entries, np.append(0, np.cumsum(per_column))


def decode(matrix: Columns) -> np.ndarray:
    """The codes (rows, columns) uint8 that `encode` encoded."""
    codes = np.zeros(matrix.shape, np.uint8)
    for pe in range(matrix.pes):
        row, column, value = _places(matrix, pe)
        codes[row, column] = value
    return codes


def multiply(matrix: Columns, codebook: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The product of the matrix and a vector, from the entries as they are; columns of zero activations are skipped.

    Parameters
    ----------
    matrix : Columns
        As `encode` returns it.
    codebook : numpy.ndarray
        (up to 16,) the weights that the codes stand for; the first must be 0.
    x : numpy.ndarray
        (columns,)

    Returns
    -------
    numpy.ndarray
        (rows,), of the type that codebook and x have in common; exact for integers.

    Raises
    ------
    ValueError
        If the codebook does not start with 0, lacks a code that is used, or x has another length.
    """
    codebook, x = np.asarray(codebook), np.asarray(x)
    highest = max((int(entries.max(initial=0)) >> 4 for entries in matrix.entries), default=0)
    if codebook.ndim != 1 or len(codebook) <= highest or codebook[0] != 0:
        raise ValueError(f"codebook must start with 0 and have at least {highest + 1} weights, got {codebook}")
    if x.shape != matrix.shape[1:]:
        raise ValueError(f"x must have shape {matrix.shape[1:]}, got {x.shape}")
    y = np.zeros(matrix.shape[0], np.result_type(codebook, x))
    for pe in range(matrix.pes):
        row, column, value = _places(matrix, pe)
        active = x[column] != 0
        np.add.at(y, row[active], codebook[value[active]] * x[column[active]])
    return y


def _places(matrix: Columns, pe: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and code of each entry of a PE, padding included."""
    entries, pointers = matrix.entries[pe], matrix.pointers[pe].astype(np.int64)
    column = np.repeat(np.arange(matrix.shape[1]), np.diff(pointers))
    passed = np.append(0, np.cumsum((entries & _LONGEST).astype(np.int64) + 1))  # rows, over all columns
    row = passed[1:] - 1 - passed[pointers[column]]
    return pe + matrix.pes * row, column, entries >> 4


def expected_padding(density: float, rows: float = np.inf) -> float:
    """Padding entries per weight in columns of so many rows per PE, where weights are left at random.

    Parameters
    ----------
    density : float
        p, the fraction of weights left, in (0, 1].
    rows : float
        L, the rows of one PE; without end unless given.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}")
    q = (1 - density) ** (_LONGEST + 1)
    if np.isinf(rows):
        return q / (1 - q)
    runs = np.arange(_LONGEST + 1, rows, _LONGEST + 1)  # the multiples of 16 that fit before a weight
    return float((q ** np.arange(1, len(runs) + 1) * (1 - runs / rows)).sum())


@dataclass(frozen=True)
class Simulation:
    """What a product cost.

    Attributes
    ----------
    cycles : int
        Until the last PE is done.
    work : numpy.ndarray
        (PEs,) the entries that each worked through, a cycle each, padding included.
    weights : int
        How many of them were weights.
    """

    cycles: int
    work: np.ndarray
    weights: int

    @property
    def idle(self) -> np.ndarray:
        """(PEs,) the cycles in which each had nothing to do."""
        return self.cycles - self.work

    @property
    def balance(self) -> float:
        """The share of all PEs' cycles in which they worked: 1 − idle/cycles."""
        return self.work.sum() / (len(self.work) * self.cycles)

    @property
    def efficiency(self) -> float:
        """The cycles that the weights would take without padding and spread evenly, as a share of the actual ones."""
        return self.weights / (len(self.work) * self.cycles)


def simulate(matrix: Columns, x: np.ndarray, depth: int) -> Simulation:
    """Count cycles: one activation is broadcast per cycle, a PE works through one entry per cycle.

    Each PE has a queue of activations, the one that it works on included. An activation is broadcast when no queue is
    full; an empty PE starts on it in the same cycle, and one without entries in that column drops it when its turn
    comes. Reading pointers, looking for non-zero activations and the pipeline of the real machine cost nothing here.

    With depth 1 all PEs wait for the slowest at every activation: ``Σ_j max(1, max_i w_ij)`` cycles for w_ij entries.

    Parameters
    ----------
    matrix : Columns
        As `encode` returns it.
    x : numpy.ndarray
        (columns,) the activations, not all zero.
    depth : int
        Of the queues, at least 1.

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        If x has another length or is all zero, or ``depth`` is below 1.
    """
    x = np.asarray(x)
    if x.shape != matrix.shape[1:] or not x.any():
        raise ValueError(f"x must have shape {matrix.shape[1:]} and not be all zero, got shape {x.shape}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    active = np.flatnonzero(x)
    work = np.diff(matrix.pointers.astype(np.int64), axis=1)[:, active]  # w, (PEs, activations)
    done = np.zeros((len(active) + 1, matrix.pes), np.int64)  # the cycle by which each PE is through with activation j
    broadcast = -1
    for j in range(len(active)):
        room = done[j - depth].max() if j >= depth else 0  # the activation before it by the depth has left every queue
        broadcast = max(broadcast + 1, room)
        done[j] = np.maximum(done[j - 1], broadcast) + work[:, j]  # done[-1] is the row of zeros
    cycles = int(max(broadcast + 1, done[len(active) - 1].max()))
    weights = sum(
        np.count_nonzero(matrix.entries[pe][np.repeat(x != 0, np.diff(matrix.pointers[pe].astype(np.int64)))] >> 4)
        for pe in range(matrix.pes)
    )
    return Simulation(cycles, work.sum(1), int(weights))
