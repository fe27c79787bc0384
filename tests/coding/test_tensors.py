import tracemalloc

import containers
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compress_lib.coding import huffman, patterns, tensors

INTEGERS = [name for name in patterns.TYPES if "int" in name]


def same(one, other) -> bool:
    """The same type, shape and bits."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return bytes_of(one) == bytes_of(other)


def bytes_of(tensor) -> bytes:
    if not tensor.numel():
        return b""
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def pruned(size, density, distinct, seed=0) -> torch.Tensor:
    """A pruned weight whose survivors share a codebook, the middle of it most often."""
    rng = np.random.default_rng(seed)
    codebook = np.linspace(-1, 1, distinct, dtype=np.float32) + np.float32(0.0123)
    codes = np.clip(rng.normal(distinct / 2, distinct / 6, size), 0, distinct - 1).astype(int)
    return torch.from_numpy(np.where(rng.random(size) < density, codebook[codes], np.float32(0)))


@st.composite
def any_tensor(draw, most=400):
    """Any type and shape; zeros, few values and many, all bit patterns that the type has."""
    dtype = draw(st.sampled_from(patterns.TYPES))
    shape = draw(st.lists(st.integers(0, 9), max_size=4) | st.integers(0, most).map(lambda n: [n]))
    size, width = int(np.prod(shape)), patterns.unsigned(dtype).itemsize
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["bits", "few", "small", "narrow"]))
    if kind == "bits":
        values = rng.integers(0, 256, (size, width), np.uint8)
    elif kind == "few":
        values = rng.integers(0, 256, (draw(st.integers(1, 20)), width), np.uint8)
        values = values[rng.integers(0, len(values), size)]
    elif kind == "small":
        values = np.zeros((size, width), np.uint8)
        values[:, 0] = rng.integers(0, 256, size)
    else:  # the lower half is zero: a float32 that is a bfloat16, a float16 of few bits
        values = rng.integers(0, 256, (size, width), np.uint8)
        values[:, : width // 2] = 0
    if dtype == "bool":
        values &= 1
    values[rng.random(size) >= draw(st.sampled_from([1, 0.5, 0.1, 0.01, 0]))] = 0
    return torch.from_numpy(values.reshape(-1)).view(getattr(torch, dtype)).reshape(shape)


# --- round trips ------------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(any_tensor(), st.none() | st.integers(1, 8), st.booleans())
@example(torch.tensor([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-45]), None, True)
@example(torch.tensor(1875), None, True)
def test_every_bit_comes_back(tensor, index_bits, use_huffman):
    data = tensors.encode(tensor, index_bits=index_bits, huffman=use_huffman)
    decoded = tensors.decode(data)
    assert same(decoded, tensor)
    assert decoded.is_contiguous()
    assert tensors.describe(data) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    assert len(data) <= tensor.nbytes + 3 + 2 * tensor.dim()  # no larger than as it is
    found = tensors.parts(data)
    assert found.codes + found.indices + found.codebook + found.tables + found.header == len(data)
    assert found.size == tensor.numel()
    assert tensors.entropy_bound(data) <= len(data)
    if not use_huffman:
        assert found.tables == 0


@pytest.mark.parametrize("dtype", patterns.TYPES)
def test_every_type_in_every_form(dtype):
    rng = np.random.default_rng(0)
    width = patterns.unsigned(dtype).itemsize
    high = 2 if dtype == "bool" else 256
    dense = rng.integers(0, high, (3000, width), np.uint8)
    few = dense[rng.integers(0, 9, 3000)]
    for values in (dense, few):
        for density in (1, 0.1):
            mixed = np.where(rng.random((3000, 1)) < density, values, np.uint8(0))
            tensor = torch.from_numpy(mixed.reshape(-1)).view(getattr(torch, dtype)).view(30, 100)
            assert same(tensors.decode(tensors.encode(tensor)), tensor)


def test_views_parameters_and_strides():
    tensor = torch.arange(24.0).view(2, 3, 4)
    for view in (tensor.permute(2, 0, 1), tensor[:, 1:], tensor[0, :, :1].expand(3, 5), torch.nn.Parameter(tensor)):
        assert same(tensors.decode(tensors.encode(view)), view)
    conjugate = torch.view_as_complex(torch.arange(6.0).view(3, 2)).conj()
    assert same(tensors.decode(tensors.encode(conjugate)), conjugate.resolve_conj())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 5000), st.sampled_from([0, 0.01, 0.1, 0.4, 1]), st.sampled_from([1, 3, 63, 64, 300]), st.booleans()
)
def test_the_record_is_the_smallest(size, density, distinct, use_huffman):
    tensor = pruned(size, density, distinct, size)
    smallest = len(tensors.encode(tensor, huffman=use_huffman))
    source = tensors._Source(tensor)
    widths = range(9) if len(source.positions) < size else [0]
    every = [source.record(form, width, use_huffman) for form in source.symbols for width in widths]
    assert smallest == min(map(len, every))
    assert all(same(tensors.decode(record), tensor) for record in every)
    assert smallest == min(len(tensors.encode(tensor, index_bits=b, huffman=use_huffman)) for b in range(1, 9))
    if not use_huffman:
        assert len(tensors.encode(tensor)) <= smallest


def test_more_values_than_a_codebook_has_and_just_as_many():
    for distinct in (65_535, 65_536, 65_537, 150_000):
        values = torch.arange(1, distinct + 1, dtype=torch.int32).repeat_interleave(2) * 12347
        for zeros in (False, True):
            tensor = torch.where(torch.arange(len(values)) % 5 < 3 * (not zeros) + 2, values, 0)
            assert same(tensors.decode(tensors.encode(tensor)), tensor)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_values_in_fewer_bytes():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4000, generator=generator)
    assert tensors.parts(tensors.encode(values)).codes == 16_000
    for narrow in (values.half(), values.bfloat16()):
        record = tensors.encode(narrow.float(), huffman=False)
        assert len(record) < 8100
        assert same(tensors.decode(record), narrow.float())
    few = torch.tensor([0.5, 1.25, 3.0]).repeat(100)
    assert tensors.parts(tensors.encode(few)).codebook == 3 * 2
    assert tensors.parts(tensors.encode(few + 0.1)).codebook == 3 * 4
    wide = torch.randint(-(2**30), 2**30, (2000,), generator=generator)
    assert len(tensors.encode(wide)) == 2000 * 4 + 5
    for bits in (1, 3, 8, 12):
        numbers = torch.randint(1000, 1000 + 2**bits, (8000,), generator=generator)
        assert len(tensors.encode(numbers, huffman=False)) <= 8000 * bits / 8 + 10
    assert len(tensors.encode(torch.tensor(1875))) == 3 + 2


def test_a_large_layer_is_within_one_per_cent_of_the_entropy_bound():
    for tensor in (pruned(1_000_000, 0.1, 64), pruned(300_000, 1, 16)):
        record = tensors.encode(tensor)
        bound = tensors.entropy_bound(record)
        assert bound < len(record) < 1.01 * bound


def test_the_bound_and_the_parts_are_those_of_the_streams():
    tensor = pruned(200_000, 0.08, 32)
    values = tensor.numpy()
    record = tensors.encode(tensor, index_bits=5)
    gaps, codes = [], []
    zeros = 0
    for value in values:
        if value or zeros == 31:
            gaps.append(zeros)
            codes.append(value)
            zeros = 0
        else:
            zeros += 1
    entropies = []
    for symbols in (gaps, codes):
        share = np.unique(symbols, return_counts=True)[1] / len(symbols)
        entropies.append(-(share * np.log2(share)).sum() * len(symbols) / 8)
    assert tensors.entropy_bound(record) == pytest.approx(sum(entropies) + 33 * 4)
    found = tensors.parts(record)
    assert (found.size, found.entries, found.codebook) == (200_000, len(gaps), 33 * 4)
    counts = np.unique(gaps, return_counts=True)[1]
    assert found.indices == -(-int(counts @ huffman.code_lengths(counts)) // 8)
    assert found.header < 25
    packed = tensors.parts(tensors.encode(tensor, index_bits=5, huffman=False))
    assert (packed.indices, packed.codes, packed.tables) == (-(-len(gaps) * 5 // 8), -(-len(gaps) * 6 // 8), 0)


# --- the format -------------------------------------------------------------------------------------------------------

FLOAT32, INT8, INT64, BOOL, FLOAT16 = (
    patterns.TYPES.index(name) for name in ("float32", "int8", "int64", "bool", "float16")
)
BY_HAND = [
    # values one by one, in float16
    (bytes([FLOAT32 + 16 * FLOAT16, 0, 1, 2]) + b"\x00\x3c\x00\xc0", torch.tensor([1.0, -2.0])),
    # a codebook of two values, indices 0 1 1 in one bit each
    (
        bytes([FLOAT32 + 16 * FLOAT32, 1, 2, 1, 3, 2]) + b"\xcd\xcc\xcc\x3d\x00\x00\x00\x80" + bytes([1, 0b01100000]),
        torch.tensor([[0.1, -0.0, -0.0]]),
    ),
    # a base of −3 and distances 0 5 2 in three bits each, the int64 in int8
    (bytes([INT64 + 16 * INT8, 2, 1, 3, 0xFD, 3, 0b00010101, 0b00000000]), torch.tensor([-3, 2, -1])),
    # gaps of two bits: 7 is at position 1, a filler at 5, then nothing for two positions: gaps − 1 are 1 and 3
    (bytes([INT8 * 17, 0 + 4 * 2, 1, 8, 2, 2, 0b01110000, 7, 0]), torch.tensor([0, 7, 0, 0, 0, 0, 0, 0]).char()),
    # the same with a base of 0 and its distances in Huffman's code
    (
        bytes([INT8 * 17, 2 + 4 * 2, 1, 8, 2, 2, 0b01110000, 0, 0])
        + bytes([len(huffman.encode(np.array([7, 0])))])
        + huffman.encode(np.array([7, 0])),
        torch.tensor([0, 7, 0, 0, 0, 0, 0, 0]).char(),
    ),
    (bytes([BOOL * 17, 0, 0, 1]), torch.tensor(True)),
    (bytes([FLOAT32 + 16 * FLOAT16, 0, 2, 3, 0]), torch.zeros(3, 0)),
]


@pytest.mark.parametrize(("data", "tensor"), BY_HAND)
def test_records_by_hand(data, tensor):
    assert same(tensors.decode(data), tensor)


def test_encode_writes_the_documented_bytes():
    assert tensors.encode(torch.tensor([1.0, -2.0])) == BY_HAND[0][0]
    assert tensors.encode(torch.tensor([-3, 2, -1])) == bytes([INT64 + 16 * INT8, 0, 1, 3, 0xFD, 2, 0xFF])
    assert tensors.encode(torch.tensor(True)) == BY_HAND[5][0]
    assert tensors.encode(torch.zeros(3, 0)) == BY_HAND[6][0]
    codes = [3, -4, 2, 1, 0, -1, -2, -3] * 4
    packed = "".join(f"{code + 4:03b}" for code in codes)
    expected = bytes([INT8 * 17, 2, 1, 32, 0xFC, 3]) + int(packed, 2).to_bytes(12, "big")
    assert tensors.encode(torch.tensor(codes).char(), huffman=False) == expected


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    containers.WRONG_RECORDS,
)
def test_a_wrong_field_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        tensors.decode(data)


def test_a_stream_of_another_length_is_refused():
    stream = huffman.encode(np.array([1, 0, 1]))
    data = bytes([INT8 * 17, 2, 1, 2, 0, 0, len(stream)]) + stream
    with pytest.raises(ValueError, match="data has a stream of 3 numbers in place of 2"):
        tensors.decode(data)


@pytest.mark.parametrize("data", [data for data, _ in BY_HAND] + [tensors.encode(pruned(500, 0.2, 9))])
def test_truncated_and_extended_records_are_refused(data):
    for length in range(len(data)):
        with pytest.raises(ValueError, match="data|gaps"):
            tensors.decode(data[:length])
    with pytest.raises(ValueError, match="data must end after byte"):
        tensors.decode(data + b"\0")


@settings(max_examples=200, deadline=None)
@given(any_tensor(), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutated_records_are_decoded_whole_or_refused(tensor, changes):
    data = bytearray(tensors.encode(tensor))
    for where, byte in changes:
        data[where % min(len(data), 40) if where % 2 else where % len(data)] = byte
    try:
        decoded = tensors.decode(bytes(data))
    except ValueError:
        return
    assert tensors.describe(bytes(data))[1] == tuple(decoded.shape)
    assert decoded.numel() <= 2048 * len(data) + 256
    assert decoded.clone().numel() == decoded.numel()


def test_few_bytes_cannot_claim_a_large_tensor():
    zeros = torch.zeros(5_000_000)
    record = tensors.encode(zeros)
    assert len(record) * 2048 + 256 >= len(zeros)
    assert len(record) < 5000
    assert same(tensors.decode(record), zeros)
    ones = torch.ones(80_000)
    assert len(tensors.encode(ones)) >= 10_000
    shape = [255] * 7 + [1]
    claims = [
        bytes([FLOAT32 * 17, form + 4 * bits, axes, *shape * axes, *entries, 1, 0, 0, 0, 0, 0, 0, 0])
        for form in (0, 1)
        for bits in (0, 1, 8)
        for axes in (1, 3, 32)
        for entries in ([0], [1], shape)
    ]
    tracemalloc.start()
    try:
        for claim in claims:
            with pytest.raises(ValueError, match="data"):
                tensors.decode(claim)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_what_cannot_be_encoded():
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"index_bits must be from 1 to 8, got {bits}"):
            tensors.encode(torch.zeros(3), index_bits=bits)
    with pytest.raises(TypeError, match="tensor must be a Tensor, got list"):
        tensors.encode([1.0])
    for tensor in (
        torch.zeros(3, 3).to_sparse(),
        torch.zeros(3, device="meta"),
        torch.zeros(2, dtype=torch.complex128),
        torch.zeros([1] * 33),
        torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
    ):
        with pytest.raises(TypeError, match="tensor must be dense, of at most 32 axes and of a type in"):
            tensors.encode(tensor)


def test_integers_have_a_base():
    for name in INTEGERS:
        info = torch.iinfo(getattr(torch, name))
        edge = torch.tensor([info.max, info.max - 5] * 200, dtype=getattr(torch, name))
        other = torch.tensor([info.min, info.min + 5] * 200, dtype=getattr(torch, name))
        for tensor in (edge, other):
            assert same(tensors.decode(tensors.encode(tensor)), tensor)
