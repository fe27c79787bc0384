import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from compress_lib.ops import packing, reference


def sign(x):
    return torch.where(x >= 0, 1.0, -1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 300), st.integers(0, 1 << 30))
def test_linear_is_the_product_of_the_signs(rows, outputs, n, seed):
    torch.manual_seed(seed)
    x, weight = torch.randn(rows, n), torch.randn(outputs, n)
    found = reference.binary_linear(packing.pack_signs(x), packing.pack_signs(weight), n)
    assert found.dtype == torch.int32
    assert torch.equal(found, (sign(x).double() @ sign(weight).double().T).int())


def test_linear_works_in_blocks(monkeypatch):
    x, weight = torch.randn(23, 130), torch.randn(31, 130)
    packed = packing.pack_signs(x), packing.pack_signs(weight)
    whole = reference.binary_linear(*packed, 130)
    for block in (1, 130 * 7):
        monkeypatch.setattr(reference, "BLOCK", block)
        assert torch.equal(reference.binary_linear(*packed, 130), whole)


def test_linear_takes_strided_words():
    x, weight = torch.randn(20, 130), torch.randn(7, 130)
    packed, packed_weight = packing.pack_signs(x), packing.pack_signs(weight)
    assert torch.equal(
        reference.binary_linear(packed[::2], packed_weight, 130),
        reference.binary_linear(packed, packed_weight, 130)[::2],
    )


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 3),
    st.sampled_from([(1, 1, 1), (3, 5, 1), (66, 4, 1), (70, 6, 2), (130, 3, 1), (6, 6, 6), (4, 8, 4)]),
    st.tuples(st.integers(7, 9), st.integers(7, 9)),
    pairs,
    pairs,
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    pairs,
    st.integers(0, 1 << 30),
)
def test_convolution_pads_with_plus_one(batch, channels, size, kernel, stride, padding, dilation, seed):
    torch.manual_seed(seed)
    inputs, outputs, groups = channels
    x, weight = torch.randn(batch, inputs, *size), torch.randn(outputs, inputs // groups, *kernel)
    found = reference.binary_conv2d(
        x, packing.pack_conv_weight(weight), stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    padded = functional.pad(sign(x), (padding[1], padding[1], padding[0], padding[0]), value=1.0).double()
    wanted = functional.conv2d(padded, sign(weight).double(), None, stride, 0, dilation, groups)
    assert found.dtype == torch.int32
    assert torch.equal(found, wanted.int())


def test_convolution_works_in_blocks(monkeypatch):
    x, weight = torch.randn(5, 3, 6, 6), packing.pack_conv_weight(torch.randn(2, 3, 3, 3))
    whole = reference.binary_conv2d(x, weight, padding=(1, 1))
    monkeypatch.setattr(reference, "BLOCK", 2 * 3 * 36)
    assert torch.equal(reference.binary_conv2d(x, weight, padding=(1, 1)), whole)


@pytest.mark.parametrize(("size", "rows"), [(7, 3), (6, 2), (5, 2), (4, 1), (2, 0)])
def test_output_size(size, rows):
    assert reference.output_size((size, 9), (3, 1), (2, 1), (0, 1), (1, 1)) == (rows, 11)
