import heapq
import itertools
import tracemalloc

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compress_lib.coding import huffman, prefix_code


def bell(count, distinct=64, deviation=10, seed=0) -> np.ndarray:
    """What a layer's codebook indices look like."""
    values = np.random.default_rng(seed).normal(distinct / 2, deviation, count)
    return np.clip(np.rint(values), 0, distinct - 1).astype(np.uint8)


def fibonacci(count) -> np.ndarray:
    """The counts that make the longest words."""
    numbers = [1, 1]
    while len(numbers) < count:
        numbers.append(numbers[-1] + numbers[-2])
    return np.array(numbers)


def by_heap(counts) -> int:
    """The bits of Huffman's own algorithm: the sum of all the weights that it merges."""
    heap = [int(count) for count in counts if count]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def fields(data):
    """The documented format, read bit by bit: count, distinct, chunk, tail, the three lists, and the words' digits."""
    assert data[:3] == b"HF\x01"
    at = 3

    def varint():
        nonlocal at
        number = shift = 0
        while True:
            number += (data[at] % 128) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                return number

    def numbers(count):
        nonlocal at
        lowest, width = data[at] * 256 + data[at + 1], data[at + 2]
        digits = "".join(f"{byte:08b}" for byte in data[at + 3 :])
        at += 3 + (count * width + 7) // 8
        return [lowest + int("0" + digits[i * width : (i + 1) * width], 2) for i in range(count)]

    count, distinct, chunk, tail = varint(), varint() + 1, 8 * varint(), varint()
    lists = [numbers(distinct), numbers(distinct), numbers(count // chunk)]
    return count, distinct, chunk, tail, *lists, "".join(f"{byte:08b}" for byte in data[at:])


def by_hand(data) -> list[int]:
    """Decode bit by bit."""
    count, _, chunk, tail, gaps, lengths, chunks, digits = fields(data)
    alphabet = [sum(gaps[: i + 1]) + i for i in range(len(gaps))]
    table, word = {}, 0
    for n in range(1, 17):
        for symbol, length in zip(alphabet, lengths, strict=True):
            if length == n:
                table[f"{word:0{n}b}"] = symbol
                word += 1
        word *= 2
    symbols, start, cuts = [], 0, [0]
    for end in range(1, len(digits) + 1):
        if len(symbols) < count and digits[start:end] in table:
            symbols.append(table[digits[start:end]])
            start = end
            if len(symbols) % chunk == 0 or len(symbols) == count:
                cuts.append(end)
    assert np.diff(cuts).tolist() == chunks + ([tail] if tail else [])
    assert len(digits) - start < 8
    assert "1" not in digits[start:]
    return symbols


def build(count, distinct, chunk, tail, gaps, lengths, chunks, digits) -> bytes:
    """The inverse of `fields`, whatever the fields are. The lists are (minimum, width, values)."""

    def varint(number):
        return (
            varint(number % 128)[:-1] + bytes([number % 128 + 128]) + varint(number // 128)
            if number > 127
            else bytes([number])
        )

    def packed(digits):
        digits += "0" * (-len(digits) % 8)
        return bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))

    def numbers(lowest, width, values):
        return bytes([lowest // 256, lowest % 256, width]) + packed(
            "".join(f"{v - lowest:0{width}b}" for v in values if width)
        )

    head = b"".join(varint(number) for number in (count, distinct - 1, chunk // 8, tail))
    return b"HF\x01" + head + numbers(*gaps) + numbers(*lengths) + numbers(*chunks) + packed(digits)


# --- lengths ----------------------------------------------------------------------------------------------------------

some_counts = st.lists(st.integers(0, 1000), max_size=40)


@settings(max_examples=200, deadline=None)
@given(some_counts)
@example(fibonacci(17).tolist())
def test_lengths_are_as_good_as_huffmans(counts):
    counts = np.array(counts, np.int64)
    lengths = huffman.code_lengths(counts)
    occurring = np.count_nonzero(counts)
    assert np.array_equal(lengths > 0, counts > 0)
    if occurring > 1:
        assert counts @ lengths == by_heap(counts)
        assert np.exp2(-lengths[counts > 0].astype(float)).sum() == 1
        mean = counts @ lengths / counts.sum()
        assert huffman.entropy(counts) - 1e-9 <= mean < huffman.entropy(counts) + 1
    assert huffman.entropy(counts) == pytest.approx(scipy.stats.entropy(counts, base=2) if occurring else 0, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), st.integers(1, 5))
@example(fibonacci(6).tolist(), 3)
def test_limited_lengths_are_as_good_as_the_best_of_all(counts, limit):
    if len(counts) > 2**limit:
        with pytest.raises(ValueError, match=f"counts must have at most {2**limit} symbols that occur"):
            huffman.code_lengths(np.array(counts), max_length=limit)
        return
    lengths = huffman.code_lengths(np.array(counts), max_length=limit)
    assert lengths.max() <= limit
    assert np.exp2(-lengths.astype(float)).sum() == 1
    best = min(
        sum(c * n for c, n in zip(counts, some, strict=True))
        for some in itertools.product(range(1, limit + 1), repeat=len(counts))
        if sum(2.0**-n for n in some) <= 1
    )
    assert np.array(counts) @ lengths == best


def test_words_of_more_than_16_bits_are_avoided():
    counts = fibonacci(40)
    lengths = huffman.code_lengths(counts)
    assert lengths.max() == huffman.MAX_LENGTH == 16
    assert np.exp2(-lengths.astype(float)).sum() == 1
    assert by_heap(counts) < counts @ lengths < 1.001 * by_heap(counts)
    assert np.all(np.diff(lengths.astype(int)) <= 0)


def test_lengths_and_entropy_of_few_symbols_and_of_many():
    assert huffman.code_lengths(np.array([], int)).tolist() == []
    assert huffman.code_lengths(torch.tensor([0, 0])).tolist() == [0, 0]
    assert huffman.code_lengths(np.array([0, 7])).tolist() == [0, 1]
    assert huffman.code_lengths(np.array([4, 2, 1, 1])).tolist() == [1, 2, 3, 3]
    assert huffman.code_lengths(np.array([2**57, 1, 2**56])).tolist() == [1, 2, 2]
    assert np.all(huffman.code_lengths(np.arange(1, 65537)) == 16)
    assert huffman.entropy(np.array([4, 2, 1, 1])) == 1.75
    assert huffman.entropy(torch.tensor([5])) == huffman.entropy(np.array([], int)) == 0


def test_bad_counts():
    for function in (huffman.code_lengths, huffman.entropy):
        with pytest.raises(TypeError, match="counts must be integers, got float64"):
            function(np.array([1.0]))
        for counts in (np.array([1, -1]), np.array([[1]]), np.array([2**59])):
            with pytest.raises(ValueError, match="counts must have one axis, no negative value and a sum of at most"):
                function(counts)
    for limit in (0, 17):
        with pytest.raises(ValueError, match=f"max_length must be from 1 to 16, got {limit}"):
            huffman.code_lengths(np.array([1]), max_length=limit)
    with pytest.raises(ValueError, match="at most 65,536 symbols that occur, got 65,537"):
        huffman.code_lengths(np.ones(65537, int))


# --- streams ----------------------------------------------------------------------------------------------------------


@st.composite
def streams(draw, most=2000):
    """Streams with few and many symbols, small and large ones, even and skewed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    largest = draw(st.sampled_from([0, 1, 2, 7, 63, 255, 256, 5000, 65535]))
    alphabet = rng.integers(0, largest + 1, draw(st.integers(1, 300)))
    chances = np.exp2(-draw(st.sampled_from([0, 0.05, 0.3, 1, 2])) * np.arange(len(alphabet)))
    return rng.choice(alphabet, draw(st.integers(0, most)), p=chances / chances.sum())


@settings(max_examples=300, deadline=None)
@given(streams())
def test_decode_is_the_inverse_of_encode(symbols):
    data = huffman.encode(symbols)
    decoded = huffman.decode(data)
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, symbols)


@settings(max_examples=50, deadline=None)
@given(streams())
def test_the_format_is_the_documented_one(symbols):
    data = huffman.encode(symbols)
    if len(symbols):
        assert by_hand(data) == symbols.tolist()
        assert len(fields(data)[-1]) == -(-np.bincount(symbols) @ huffman.code_lengths(np.bincount(symbols)) // 8) * 8
    else:
        assert data == b"HF\x01\0"


@pytest.mark.parametrize(
    "symbols",
    [
        bell(300_000),
        bell(200_000, 256, 40),  # one symbol a window, or two
        bell(200_000, 16, 1).astype(np.uint16) * 4000,
        bell(100_000, 5, 0.4),  # eight symbols a window, and words longer than a window's share
        np.repeat(np.arange(22), fibonacci(22)),  # words of 16 bits
        np.random.default_rng(0).permutation(np.repeat(np.arange(22) * 3000, fibonacci(22))),
        np.random.default_rng(1).permutation(np.arange(1 << 16)),
        np.random.default_rng(2).permutation(np.append(np.arange(1 << 16), np.zeros(9, int))),
        np.random.default_rng(3).integers(0, 1 << 16, 150_000),
        np.zeros(70_000, np.uint16) + 65535,
        np.append(np.zeros(50_000, int), 65535),
        bell(huffman.MAX_CHUNK * 2, 2, 0.5),
        np.array([7]),
        np.array([0, 65535]),
    ],
)
def test_round_trip_of_a_large_stream(symbols):
    data = huffman.encode(symbols)
    assert np.array_equal(huffman.decode(data), symbols)
    counts = np.bincount(symbols)
    bits = counts @ huffman.code_lengths(counts).astype(np.int64)
    distinct = np.count_nonzero(counts)
    assert len(data) < 1.004 * bits / 8 + distinct * (16 + 4) / 8 + 30


def test_more_chunks_than_are_read_side_by_side(monkeypatch):
    symbols = bell(200_000)
    data = huffman.encode(symbols)
    monkeypatch.setattr(prefix_code, "LANES", 7)
    assert np.array_equal(huffman.decode(data), symbols)


def test_size_of_codebook_indices_is_within_one_per_cent_of_the_entropy():
    symbols = bell(1_000_000)
    entropy = huffman.entropy(np.bincount(symbols)) * len(symbols) / 8
    assert entropy < len(huffman.encode(symbols)) < 1.01 * entropy


def test_integers_of_any_kind_and_shape():
    expected = huffman.encode(np.arange(12))
    for symbols in (
        np.arange(12, dtype=np.int8).reshape(3, 4),
        torch.arange(12).view(3, 4),
        np.arange(12, dtype=">u2"),
    ):
        assert huffman.encode(symbols) == expected
    assert np.array_equal(
        huffman.decode(huffman.encode(torch.arange(300).view(3, 100).T)), np.arange(300).reshape(3, 100).T.ravel()
    )
    assert np.array_equal(huffman.decode(memoryview(bytearray(expected))), np.arange(12))


def test_bad_symbols():
    for symbols, wrong in (([-1, 3], "-1"), ([65536], "65,536")):
        with pytest.raises(ValueError, match=f"symbols must be from 0 to 65,535, got {wrong}"):
            huffman.encode(np.array(symbols))
    for symbols in (np.array([]), np.array([np.nan]), torch.ones(3), np.array([True]), np.array(["a"])):
        with pytest.raises(TypeError, match="symbols must be integers, got"):
            huffman.encode(symbols)


# --- malformed streams ------------------------------------------------------------------------------------------------

GOOD = {
    "count": 17,
    "distinct": 3,
    "chunk": 8,
    "tail": 2,
    "gaps": (0, 4, [5, 0, 9]),
    "lengths": (1, 1, [1, 2, 2]),
    "chunks": (8, 3, [8, 15]),
    "digits": "0" * 8 + "0" + "10" * 4 + "11" * 3 + "11",
}


def test_a_stream_by_hand():
    expected = [5] * 9 + [6] * 4 + [16] * 4
    assert by_hand(build(**GOOD)) == huffman.decode(build(**GOOD)).tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 2**50}, r"data of \d+ bytes cannot hold 1125899906842624 symbols"),
        ({"count": 2**57}, "a number of more than 8 bytes"),
        ({"distinct": 18}, "cannot hold 17 symbols, 18 of them distinct"),
        ({"distinct": 2**40}, "cannot hold 17 symbols, 1099511627776 of them distinct"),
        ({"chunk": 0}, "data has chunks of 0 symbols"),
        ({"chunk": 4096}, "data has chunks of 4096 symbols"),
        ({"tail": 0}, "0 bits for the last 17 mod 8"),
        ({"tail": 3}, r"data must have 3 bits in chunk 2, got 2"),
        ({"tail": 1}, "data must end after byte 23, got 1 more"),
        ({"tail": 2**55}, "data is truncated"),
        ({"gaps": (0, 16, [5, 0, 65535])}, "data has symbols up to 65,542, above 65,535"),
        ({"gaps": (0, 17, [5, 0, 9])}, "a list with a width of 17 bits, above 16"),
        ({"lengths": (1, 1, [1, 1, 2])}, "data has word lengths from 1 to 2 of Kraft sum 1.25"),
        ({"lengths": (2, 0, [2, 2, 2])}, "data has word lengths from 2 to 2 of Kraft sum 0.75"),
        ({"lengths": (0, 2, [0, 1, 1])}, "data has word lengths from 0 to 1 of Kraft sum 2"),
        ({"lengths": (1, 5, [1, 1, 17])}, "data has word lengths from 1 to 17"),
        ({"lengths": (65535, 0, [65535] * 3)}, "data has word lengths from 65535 to 65535"),
        ({"chunks": (8, 3, [9, 14])}, "data must have 9 bits in chunk 0, got 8"),
        ({"chunks": (7, 4, [7, 16])}, "data must have 7 bits in chunk 0, got 8"),
        ({"chunks": (8, 4, [8, 23])}, "data is truncated"),
        ({"chunks": (8, 3, [8, 14])}, "data must end after byte 23, got 1 more"),
        ({"digits": GOOD["digits"] + "0" * 8}, "data must end after byte 24, got 1 more"),
        ({"digits": GOOD["digits"][:-2]}, "data is truncated"),
    ],
)
def test_a_wrong_field_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        huffman.decode(build(**GOOD | changes))


def test_padding_that_is_not_zero_and_another_magic_are_refused():
    data = huffman.encode(np.array([1, 1, 2]))
    with pytest.raises(ValueError, match="data must end in 5 zero bits, got a last byte of 0b00100001"):
        huffman.decode(data[:-1] + bytes([data[-1] | 1]))
    for other in (b"HF\x02", b"PK\x03"):
        with pytest.raises(ValueError, match="data must begin with .* a Huffman stream of version 1, got"):
            huffman.decode(other + data[3:])
    lone = huffman.encode(np.full(16, 3))
    assert np.array_equal(huffman.decode(lone), np.full(16, 3))
    with pytest.raises(ValueError, match="data must have 16 zero bits for 16 times one symbol"):
        huffman.decode(lone[:-1] + b"\1")


@pytest.mark.parametrize("symbols", [[], [5], [5] * 99, [1, 2, 3], bell(3000), np.arange(0, 60000, 200)])
def test_truncated_and_extended_streams_are_refused(symbols):
    data = huffman.encode(np.array(symbols, int))
    for length in range(len(data)):
        with pytest.raises(ValueError, match="data"):
            huffman.decode(data[:length])
    with pytest.raises(ValueError, match="data must end after byte"):
        huffman.decode(data + b"\0")


@settings(max_examples=1000, deadline=None)
@given(streams(most=600), st.data())
def test_mutated_streams_are_decoded_whole_or_refused(symbols, draw):
    data = bytearray(huffman.encode(symbols))
    for _ in range(draw.draw(st.integers(1, 3))):
        where = draw.draw(st.integers(0, min(len(data), 40) - 1) | st.integers(0, len(data) - 1))
        how = draw.draw(st.sampled_from(["flip", "set", "delete", "insert", "swap"]))
        if how == "flip":
            data[where] ^= 1 << draw.draw(st.integers(0, 7))
        elif how == "set":
            data[where] = draw.draw(st.integers(0, 255))
        elif how == "delete" and len(data) > 1:
            del data[where : where + draw.draw(st.integers(1, min(8, len(data) - 1)))]
        elif how == "insert":
            data[where:where] = draw.draw(st.binary(max_size=8))
        elif how == "swap":
            data[where - 1], data[where] = data[where], data[where - 1]
        data = data or bytearray(1)
    try:
        decoded = huffman.decode(bytes(data))
    except ValueError:
        return
    assert decoded.dtype == np.uint16
    assert len(decoded) <= 8 * len(data)
    assert decoded.tolist() == (by_hand(bytes(data)) if len(decoded) else [])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_are_decoded_whole_or_refused(rest):
    try:
        assert len(huffman.decode(b"HF\x01" + rest)) <= 8 * len(rest)
    except ValueError as error:
        assert "data" in str(error)


def test_memory_is_bounded_by_the_data():
    """10 kB cannot make the decoder take more than its tables and so much per byte."""
    symbols = bell(20_000, 3, 0.6)
    data = huffman.encode(symbols)
    tracemalloc.start()
    try:
        for claimed in (data, build(**GOOD | {"count": 2**55}), build(**GOOD | {"tail": 2**55})):
            tracemalloc.reset_peak()
            try:
                huffman.decode(claimed)
            except ValueError:
                pass
            assert tracemalloc.get_traced_memory()[1] < 8e6 + 100 * len(claimed)
    finally:
        tracemalloc.stop()
