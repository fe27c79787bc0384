import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.coding import bits


def by_hand(values, width) -> bytes:
    """The bits as a string of digits."""
    digits = "".join(f"{value:0{width}b}" for value in values)
    digits += "0" * (-len(digits) % 8)
    return bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))


@st.composite
def arrays(draw):
    width = draw(st.integers(1, 16))
    return draw(st.lists(st.integers(0, 2**width - 1), max_size=70)), width


def test_the_example_of_the_docstring():
    assert bits.pack(np.array([5, 1, 6]), 3) == bytes([0b10100111, 0b00000000])


@settings(max_examples=200, deadline=None)
@given(arrays())
def test_pack_equals_the_digits_and_unpack_is_its_inverse(case):
    values, width = case
    data = bits.pack(np.array(values, np.int64), width)
    assert data == by_hand(values, width)
    assert len(data) == bits.nbytes(len(values), width)
    unpacked = bits.unpack(data, width, len(values))
    assert unpacked.dtype == np.uint16
    assert unpacked.tolist() == values


@pytest.mark.parametrize("width", range(1, 17))
def test_many_values_of_any_width(width):
    values = np.random.default_rng(width).integers(0, 1 << width, 3 * bits.BLOCK + 5)
    data = bits.pack(values, width)
    assert data == by_hand(values, width)
    assert np.array_equal(bits.unpack(data, width, len(values)), values)


def test_integers_of_any_kind_and_shape():
    expected = bits.pack(np.arange(12), 4)
    for values in (np.arange(12, dtype=np.int8).reshape(3, 4), torch.arange(12).view(3, 4), np.arange(12, dtype=">u8")):
        assert bits.pack(values, 4) == expected
    assert bits.pack(np.arange(12).reshape(4, 3).T, 4) == bits.pack(np.arange(12).reshape(4, 3).T.copy(), 4)


def test_bad_arguments():
    for width in (0, 17):
        with pytest.raises(ValueError, match=f"width must be from 1 to 16 bits, got {width}"):
            bits.pack(np.array([0]), width)
        with pytest.raises(ValueError, match=f"width must be from 1 to 16 bits, got {width}"):
            bits.unpack(b"\0", width, 1)
    with pytest.raises(ValueError, match="values must be from 0 to 7, got 8"):
        bits.pack(np.array([8]), 3)
    with pytest.raises(ValueError, match="values must be from 0 to 7, got -1"):
        bits.pack(np.array([8, -1]), 3)
    for values in (np.array([1.0]), np.array([True]), torch.ones(1)):
        with pytest.raises(TypeError, match="values must be integers"):
            bits.pack(values, 3)


def test_data_that_pack_does_not_make():
    with pytest.raises(ValueError, match="data must have 2 bytes for 3 values of 3 bits, got 1"):
        bits.unpack(b"\0", 3, 3)
    with pytest.raises(ValueError, match="data must have 2 bytes for 3 values of 3 bits, got 3"):
        bits.unpack(b"\0\0\0", 3, 3)
    with pytest.raises(ValueError, match="for 1000000000000000000 values of 16 bits, got 1"):
        bits.unpack(b"\0", 16, 10**18)
    with pytest.raises(ValueError, match="for -1 values of 8 bits, got 0"):
        bits.unpack(b"", 8, -1)
    with pytest.raises(ValueError, match="data must end in 7 zero bits, got a last byte of 0b00000001"):
        bits.unpack(b"\0\1", 3, 3)
