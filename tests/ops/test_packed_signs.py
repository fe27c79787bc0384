import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.ops import packing

FLOATS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def by_hand(row) -> list[int]:
    """The words of a row, as the documentation has them, bit by bit."""
    found = [0] * -(-len(row) // 64)
    for i, value in enumerate(row):
        if value >= 0:
            found[i // 64] |= 1 << i % 64
    return [word - (1 << 64) if word >> 63 else word for word in found]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(width=16), max_size=200), st.sampled_from(FLOATS))
def test_signs_are_packed_least_significant_first(row, dtype):
    assert packing.pack_signs(torch.tensor(row, dtype=dtype)).tolist() == by_hand(row)


@pytest.mark.parametrize("dtype", FLOATS)
def test_zeros_are_positive_and_nan_is_negative(dtype):
    nan, inf = float("nan"), float("inf")
    tiny = torch.finfo(dtype).smallest_normal / 2  # subnormal
    x = torch.tensor([0.0, -0.0, nan, inf, -inf, tiny, -tiny, -nan], dtype=dtype)
    assert packing.unpack_signs(packing.pack_signs(x), 8).tolist() == [1, 1, -1, 1, -1, 1, -1, -1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 4), st.integers(0, 300), st.integers(0, 1 << 30))
def test_unpacking_gives_back_the_signs(rows, n, seed):
    x = torch.randn(rows, 2, n, generator=torch.Generator().manual_seed(seed))
    packed = packing.pack_signs(x)
    assert packed.shape == (rows, 2, packing.words(n))
    assert packed.dtype == torch.int64
    assert torch.equal(packing.unpack_signs(packed, n), torch.where(x >= 0, 1.0, -1.0))


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130])
def test_bits_after_the_last_element_are_zero(n):
    packed = packing.pack_signs(torch.ones(3, n))
    assert np.unpackbits(packed.numpy().view(np.uint8)).sum() == 3 * n


def test_strides_do_not_matter():
    x = torch.randn(70, 90)
    assert torch.equal(packing.pack_signs(x.T), packing.pack_signs(x.T.contiguous()))
    packed = packing.pack_signs(torch.randn(10, 130))
    assert torch.equal(packing.unpack_signs(packed[::2], 130), packing.unpack_signs(packed, 130)[::2])


def test_a_weight_takes_one_bit_per_number():
    assert packing.pack_signs(torch.randn(64, 1024)).nbytes * 32 == torch.empty(64, 1024).nbytes


def test_the_channels_of_a_convolution_are_packed_for_each_tap():
    weight = torch.randn(5, 70, 3, 2)
    packed = packing.pack_conv_weight(weight)
    assert packed.shape == (5, 3, 2, 2)
    assert packed.is_contiguous()
    assert packed[4, 2, 1].tolist() == by_hand(weight[4, :, 2, 1].tolist())
