import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.quantization.integer import affine
from compress_lib.quantization.integer.qparams import Dequantize, QParams, Quantize


@pytest.mark.parametrize("bits", [1, 4, 8, 9, 16])
def test_quantize_and_dequantize(bits):
    x = torch.linspace(-3, 3, 101)
    grid = QParams(6 / (2**bits - 1), 2 ** (bits - 1), bits)
    enter, leave = Quantize(grid), Dequantize(grid)
    codes = enter(x)
    assert codes.dtype == (torch.uint8 if bits <= 8 else torch.int32)
    assert torch.equal(codes.int(), affine.quantize(x, grid.scale, grid.zero_point, bits, signed=False).int())
    assert torch.equal(leave(codes), affine.fake_quantize(x, grid.scale, grid.zero_point, bits, signed=False))
    again = Quantize(QParams(1.0, 0, bits))
    again(x)
    again.load_state_dict(enter.state_dict())
    assert set(enter.state_dict()) == {"scale", "zero_point"}
    assert again.qparams == grid
    assert torch.equal(copy.deepcopy(again).half()(x), codes)


@settings(max_examples=100, deadline=None)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False), max_size=50),
    scale=st.floats(2**-40, 2**40),
    zero_point=st.integers(0, 1),
    bits=st.integers(1, 16),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_qparams_give_the_codes_of_affine(numbers, scale, zero_point, bits, dtype):
    x, grid = torch.tensor(numbers, dtype=dtype), QParams(scale, zero_point, bits)
    wanted = affine.quantize(x, grid.scale, zero_point, bits, signed=False)
    assert torch.equal(grid.quantize(x).int(), wanted.int())
    halves = torch.linspace(-3, 3, 60).to(torch.bfloat16)
    assert torch.equal(
        grid.quantize(halves).int(), affine.quantize(halves, grid.scale, zero_point, bits, signed=False).int()
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_quantize_refuses_what_is_not_finite(bad):
    x = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    x[1, 2, 3, 3] = bad
    with pytest.raises(ValueError, match="x must be finite, got 1 NaN or infinite"):
        Quantize(QParams(0.05, 37))(x)
    x[0, 0, 0, 0] = -bad
    with pytest.raises(ValueError, match="x must be finite, got 2 NaN or infinite"):
        Quantize(QParams(0.05, 37))(x)
    with pytest.raises(TypeError, match="x must be a float tensor, got torch.int64"):
        Quantize(QParams(0.05, 37))(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((float("nan"), 0), ValueError, "scale must be positive and finite"),
        ((0.0, 0), ValueError, "scale must be positive and finite"),
        ((1e50, 0), ValueError, "scale must be positive and finite"),
        ((0.1, 256), ValueError, "zero_point must be from 0 to 255"),
        ((0.1, -1), ValueError, "zero_point must be from 0 to 255"),
        ((0.1, 1.0), TypeError, "zero_point must be an int"),
        (("1", 1), TypeError, "scale must be a float"),
        ((0.1, 0, 17), ValueError, "bits must be an integer from 1 to 16"),
    ],
)
def test_qparams_that_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        QParams(*arguments)


def test_dequantize_refuses_what_are_no_codes():
    with pytest.raises(TypeError, match="q must be an integer tensor, got torch.float32"):
        Dequantize(QParams(0.05, 37))(torch.zeros(3))
