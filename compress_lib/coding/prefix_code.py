"""The words of a prefix code, laid end to end and read back, many at a time. Used by `huffman`. Chapter 07.

Writing joins the words of four symbols to an item of at most 64 bits, shifts every item to its place in a row of 64-bit
numbers and unites those that share a number. Reading goes through all chunks of the stream side by side: a window of
the next bits of every chunk is looked up in a table, which gives one, two, four or eight symbols and the bits that they
took. Where a window does not hold so many whole words, the symbols of that chunk are looked up one by one: an escape.
"""

import numpy as np

LONGEST = 16  # bits of a word
WRITTEN = 1 << 16  # symbols written at a time: the arrays stay in the cache
LANES = 16000  # chunks read side by side, likewise; no power of 2, which would slow down the transposition
ESCAPES = 0.05  # the share of windows up to which escapes cost less than they save


def canonical(lengths: np.ndarray) -> np.ndarray:
    """The words of the canonical code with these lengths: counted upwards in the order of length, then index.

    Parameters
    ----------
    lengths : numpy.ndarray
        (D,) uint8, from 1 to 16.

    Returns
    -------
    numpy.ndarray
        (D,) uint64, each word in the highest of 64 bits.
    """
    order = np.argsort(lengths, kind="stable")
    spans = np.uint64(1) << (LONGEST - lengths[order]).astype(np.uint64)  # how many strings of 16 bits begin so
    words = np.empty(len(lengths), np.uint64)
    words[order] = np.cumsum(spans) - spans
    return words << np.uint64(64 - LONGEST)


def write(symbols: np.ndarray, entries: np.ndarray, chunk: int, total: int) -> tuple[bytes, np.ndarray]:
    """Lay the symbols' words end to end.

    Parameters
    ----------
    symbols : numpy.ndarray
        (N,) uint8 or uint16, N > 0.
    entries : numpy.ndarray
        (256,) or (65536,) uint64, by symbol: its word in the highest bits, its length in the lowest.
    chunk : int
        Symbols per chunk, a multiple of 8 below 65,536.
    total : int
        The bits of all words.

    Returns
    -------
    (bytes, numpy.ndarray)
        The words, padded to whole bytes by zeros, and (⌊N / chunk⌋,) uint64, the bits of every whole chunk.
    """
    in_pairs = symbols.dtype == np.uint8
    if in_pairs:  # a table of all pairs halves the look-ups
        word, length = _join(entries[None, :], entries[:, None])
        entries = (word | length).ravel()
    row = np.zeros(total // 64 + 3, np.uint64)
    block = WRITTEN // chunk * chunk
    start, chunks = 0, []
    for i in range(0, len(symbols), block):
        part = symbols[i : i + block]
        part = np.append(part, part[-1:].repeat(-len(part) % 4))  # whole items; what is too much is cut off below
        if in_pairs:
            pairs = entries[part.view("<u2")]
        else:
            single = entries[part]
            word, length = _join(single[0::2], single[1::2])
            pairs = word | length
        items, length = _join(pairs[0::2], pairs[1::2])
        whole = len(symbols[i : i + block]) // chunk
        chunks.append(length[: whole * chunk // 4].reshape(whole, chunk // 4).sum(1))
        start = _place(row, items, length, start)
    data = bytearray(row.astype(">u8").tobytes()[: (total + 7) // 8])
    data[-1] &= 0xFF << (-total % 8) & 0xFF
    return bytes(data), np.concatenate(chunks)


def _join(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The words of two entries of at most 32 bits as one word, and its length."""
    n_first, n_second = first & np.uint64(63), second & np.uint64(63)
    return (first ^ n_first) | ((second ^ n_second) >> n_first), n_first + n_second


def _place(row: np.ndarray, items: np.ndarray, length: np.ndarray, start: int) -> int:
    """Unite items of 1 to 64 bits into the row from bit ``start`` on; return where they end."""
    ends = np.cumsum(length)
    offset = (ends - length + np.uint64(start)) & np.uint64(63)
    # An item that begins in another number than the one before has no greater offset, as items are 64 bits at most.
    first = np.append(0, np.flatnonzero(offset[1:] <= offset[:-1]) + 1)
    last = np.append(first[1:], len(items)) - 1
    number, count = start // 64, len(first)
    row[number : number + count] |= np.bitwise_or.reduceat(items >> offset, first)
    row[number + 1 : number + 1 + count] |= items[last] << (np.uint64(64) - offset[last])  # numpy: x << 64 is 0
    return start + int(ends[-1])


def read(data: bytes, symbols: np.ndarray, lengths: np.ndarray, chunk: int, ends: np.ndarray, count: int) -> np.ndarray:
    """The symbols whose words lie end to end.

    Parameters
    ----------
    data : bytes
        What `write` wrote.
    symbols, lengths : numpy.ndarray
        (D,) uint8 or uint16, the alphabet, ascending, and (D,) uint8, its words' lengths: a complete code.
    chunk : int
        Symbols per chunk, a multiple of 8.
    ends : numpy.ndarray
        (⌈count / chunk⌉,) int64, ascending: the bit where each chunk ends, within the data.
    count : int
        The number of symbols, above 0.

    Returns
    -------
    numpy.ndarray
        (count,) uint16

    Raises
    ------
    ValueError
        If a chunk's words do not end where it ends.
    """
    bits = min(LONGEST, max(int(lengths.max()), count.bit_length() - 2))  # a small stream is not worth a large table
    tables = _Tables(symbols, lengths, bits)
    numbers = np.frombuffer(data + bytes(12 - len(data) % 4), ">u4").astype(np.uint64)
    numbers = numbers[:-1] << np.uint64(32) | numbers[1:]  # 64 bits from every 32nd; the last of them is padding
    starts = np.append(0, ends[:-1])
    steps = -(-min(chunk, count) // tables.each)
    out = np.empty((len(ends), steps * tables.each), np.uint16)
    reached = np.empty_like(ends)
    for lanes in np.array_split(np.arange(len(ends)), -(-len(ends) // LANES)):
        part = slice(lanes[0], lanes[-1] + 1)
        found, reached[part] = tables.lockstep(numbers, starts[part], steps)
        out[part] = np.ascontiguousarray(found.T).view(symbols.dtype)
    out = out.reshape(-1)[:count]
    if count % chunk:  # the last chunk was read on beyond its end
        by_symbol = np.zeros(1 << 16, np.int64)
        by_symbol[symbols] = lengths
        reached[-1] = starts[-1] + by_symbol[out[-(count % chunk) :]].sum()
    wrong = np.flatnonzero(reached != ends)
    if len(wrong):
        i = wrong[0]
        raise ValueError(f"data must have {ends[i] - starts[i]} bits in chunk {i}, got {reached[i] - starts[i]}")
    return out


class _Tables:
    """For each window of bits: its first symbol, and its first ``each`` symbols with the bits that they take."""

    def __init__(self, symbols: np.ndarray, lengths: np.ndarray, bits: int):
        order = np.argsort(lengths, kind="stable")
        spans = 1 << (bits - lengths[order].astype(np.int64))  # how many windows begin with the word
        self.bits = bits
        self.symbol, self.length = symbols[order].repeat(spans), lengths[order].astype(np.int64).repeat(spans)
        self.each, self.group, taken = 1, self.symbol, self.length
        while self.group.itemsize < 8 and 2 * self.each * self.length.mean() <= bits:
            rest = np.arange(1 << bits) << taken & (1 << bits) - 1
            longer = taken + taken[rest]
            if np.mean(longer > bits) > ESCAPES:
                break
            two = np.stack((self.group, self.group[rest]), axis=1)
            self.each, self.group, taken = 2 * self.each, two.view(f"u{2 * two.itemsize}").ravel(), longer
        self.escapes = bool(taken.max() > bits)
        self.taken = np.where(taken > bits, 0, taken)  # 0 marks an escape

    def lockstep(self, numbers: np.ndarray, starts: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Look up so many windows in each chunk: the groups (steps, chunks), and the bits where the chunks got to."""
        found, at = np.empty((steps, len(starts)), self.group.dtype), starts.copy()
        window, taken = np.empty(len(starts), np.uint64), np.empty_like(at)
        index, shift = window.view(np.int64), taken.view(np.uint64)  # numpy looks up by signed, shifts by unsigned
        for step in range(steps):
            if step % (33 // self.bits) == 0:
                row = _load(numbers, at)
            np.right_shift(row, np.uint64(64 - self.bits), out=window)
            self.group.take(index, out=found[step], mode="clip")  # without "clip" numpy copies the output
            self.taken.take(index, out=taken, mode="clip")
            escaped = np.flatnonzero(taken == 0) if self.escapes and not np.minimum.reduce(taken) else None
            if escaped is not None:
                found[step, escaped], taken[escaped] = self._one_by_one(numbers, at[escaped])
            at += taken
            np.left_shift(row, shift, out=row)
            if escaped is not None:
                row[escaped] = _load(numbers, at[escaped])
        return found, at

    def _one_by_one(self, numbers: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A group from each position, and the bits it takes."""
        found, taken = np.empty((len(at), self.each), self.symbol.dtype), np.zeros_like(at)
        for i in range(self.each):
            if i % (33 // self.bits) == 0:
                row = _load(numbers, at + taken)
            window = (row >> np.uint64(64 - self.bits)).view(np.int64)
            length = self.length.take(window)
            found[:, i] = self.symbol.take(window)
            taken += length
            row <<= length.view(np.uint64)
        return found.view(self.group.dtype)[:, 0], taken


def _load(numbers: np.ndarray, at: np.ndarray) -> np.ndarray:
    """At least 33 bits from each position, in the highest of 64; zeros beyond the end."""
    return numbers.take(at >> 5, mode="clip") << (at & 31).view(np.uint64)
