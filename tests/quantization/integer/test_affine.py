import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_lib.quantization.integer import affine

bits_and_sign = st.tuples(st.integers(1, 16), st.booleans()).filter(lambda pair: pair != (1, True))


def numbers(seed, shape, dtype=torch.float32):
    """Some outside any range, some on grid points and between two, and zeros of both signs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * 10 ** torch.empty(()).uniform_(-2, 3, generator=generator).double()
    halves = (torch.randn(shape, generator=generator) * 8).round() / 2 * 0.25
    x = torch.where(torch.rand(shape, generator=generator) < 0.5, x, halves)
    x.view(-1)[:2] = torch.tensor([0.0, -0.0])
    return x.to(dtype)


def same_bits(a, b):
    return a.dtype == b.dtype and torch.equal(a, b) and torch.equal(a.signbit(), b.signbit())


# --- codes ------------------------------------------------------------------------------------------------------------


def test_limits():
    assert affine.quant_range(8, True) == (-128, 127)
    assert affine.quant_range(8, False) == (0, 255)
    assert affine.quant_range(8, True, narrow=True) == (-127, 127)
    assert affine.quant_range(8, False, narrow=True) == (1, 255)
    assert affine.quant_range(2, True, narrow=True) == (-1, 1)
    assert affine.quant_range(16, True) == (-(2**15), 2**15 - 1)
    assert affine.quant_range(1, False) == (0, 1)
    for bits in (0, 17, -1, 8.0, True, None):
        with pytest.raises(ValueError, match="bits must be an integer from 1 to 16, got"):
            affine.quant_range(bits, False)
    for options in ({"signed": True}, {"signed": False, "narrow": True}):
        with pytest.raises(ValueError, match="bits=1 has the codes 0 and 1 only"):
            affine.quant_range(1, **options)


@settings(max_examples=150, deadline=None)
@given(
    kind=bits_and_sign,
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    channels=st.booleans(),
    axis=st.sampled_from([0, 1, -1]),
    narrow=st.booleans(),
    data=st.data(),
)
def test_equal_to_torch_bit_for_bit(kind, seed, dtype, channels, axis, narrow, data):
    bits, signed = kind
    narrow = narrow and bits > 1
    lowest, highest = affine.quant_range(bits, signed, narrow)
    x = numbers(seed, (4, 5, 6), dtype)
    scales = st.sampled_from([0.25, 1.0, 0.1, 1e-3, 3.7, 1e-30, 1e30])
    if channels:
        count = x.shape[axis]
        scale = torch.tensor(data.draw(st.lists(scales, min_size=count, max_size=count)))
        zero_point = torch.tensor([data.draw(st.integers(lowest, highest)) for _ in range(count)], dtype=torch.int32)
    else:
        scale, zero_point, axis = torch.tensor(data.draw(scales)), data.draw(st.integers(lowest, highest)), None
    # torch converts to int64 before it clamps, which is not defined beyond its range.
    wide = scale if axis is None else scale.view([-1 if d == axis % 3 else 1 for d in range(3)])
    x = torch.where((x.double() / wide.double()).abs() < 2**40, x, 0)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    found = affine.fake_quantize(ours, scale, zero_point, bits, signed=signed, narrow=narrow, axis=axis)
    if axis is None:
        expected = torch.fake_quantize_per_tensor_affine(theirs, scale.item(), zero_point, lowest, highest)
    else:
        axis %= 3
        expected = torch.fake_quantize_per_channel_affine(theirs, scale, zero_point, axis, lowest, highest)
    # torch rounds what is float64 to float32 per tensor, but not per channel.
    assert same_bits(found, expected.float().to(dtype))
    slope = torch.linspace(-1, 1, x.numel()).view(x.shape).to(dtype)
    found.backward(slope)
    expected.backward(slope)
    assert same_bits(ours.grad, theirs.grad)


def test_between_two_codes_the_inverse_scale_decides_as_in_torch():
    scale = torch.tensor([0.1, 0.037, 1.7, 3e-5])
    x = (torch.arange(-200, 200) + 0.5) * scale[:, None]
    zero_point = torch.zeros(4, dtype=torch.int32)
    found = affine.fake_quantize(x, scale, zero_point, 10, axis=0)
    assert same_bits(found, torch.fake_quantize_per_channel_affine(x, scale, zero_point, 0, -512, 511))
    assert not torch.equal(found, (x / scale[:, None]).round() * scale[:, None])  # a division decides otherwise


@settings(max_examples=100, deadline=None)
@given(kind=bits_and_sign, seed=st.integers(0, 10**6), data=st.data())
def test_quantize_by_fractions(kind, seed, data):
    bits, signed = kind
    lowest, highest = affine.quant_range(bits, signed)
    x, zero_point = numbers(seed, (20,)), data.draw(st.integers(lowest, highest))
    scale = 2.0 ** data.draw(st.integers(-6, 3))  # 1/scale and the product with it are exact
    codes = affine.quantize(x, scale, zero_point, bits, signed=signed)
    expected = [round(Fraction(v) / Fraction(scale)) + zero_point for v in x.tolist()]  # round: half to even
    assert codes.tolist() == [min(max(q, lowest), highest) for q in expected]
    values = affine.dequantize(codes, scale, zero_point)
    assert values.dtype == torch.float32
    assert values.tolist() == [scale * (q - zero_point) for q in codes.tolist()]


@settings(max_examples=60, deadline=None)
@given(kind=bits_and_sign, seed=st.integers(0, 10**6), channels=st.booleans())
def test_fake_quantize_is_dequantize_of_quantize(kind, seed, channels):
    bits, signed = kind
    x = numbers(seed, (3, 40)).clamp(-20, 20)
    low, high = (x.amin(1), x.amax(1)) if channels else (x.min() / 2, x.max() / 3)
    scale, zero_point = affine.choose_qparams(low, high, bits, signed=signed)
    axis = 0 if channels else None
    codes = affine.quantize(x, scale, zero_point, bits, signed=signed, axis=axis)
    values = affine.dequantize(codes, scale, zero_point, axis=axis)
    assert same_bits(values, affine.fake_quantize(x, scale, zero_point, bits, signed=signed, axis=axis))
    assert same_bits(values, affine.fake_quantize(values, scale, zero_point, bits, signed=signed, axis=axis))


@pytest.mark.parametrize(
    ("bits", "signed", "dtype"),
    [
        (1, False, torch.uint8),
        (8, False, torch.uint8),
        (2, True, torch.int8),
        (8, True, torch.int8),
        (9, False, torch.int16),
        (15, False, torch.int16),
        (9, True, torch.int16),
        (16, True, torch.int16),
        (16, False, torch.int32),
    ],
)
def test_types_hold_all_codes(bits, signed, dtype):
    lowest, highest = affine.quant_range(bits, signed)
    codes = affine.quantize(torch.tensor([-1e6, 0, 1e6]), 1.0, 0, bits, signed=signed)
    assert (codes.dtype, codes.tolist()) == (dtype, [lowest, 0, highest])


def test_half_goes_to_even_and_the_largest_floats_saturate():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3e38, -3e38])
    assert affine.quantize(x, 1.0, 0, 8).tolist() == [-2, -2, 0, 0, 2, 2, 127, -128]
    assert affine.quantize(x, 1e-38, 0, 8)[-2:].tolist() == [127, -128]


def test_the_gradient_is_one_inside_and_zero_outside():
    x = torch.tensor([-3.0, -2.4, -0.2, 1.4, 1.6, 9.0], requires_grad=True)
    affine.fake_quantize(x, 1.0, 0, 2).sum().backward()  # codes −2 … 1
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]
    assert not affine.fake_quantize(x.detach(), 1.0, 0, 2).requires_grad


def test_inputs_are_left_alone_and_empty_tensors_pass():
    x = torch.randn(3, 4)
    before = x.clone()
    scale, zero_point = affine.choose_qparams(x.amin(1), x.amax(1), 4)
    affine.fake_quantize(x, scale, zero_point, 4, axis=0)
    affine.quantize(x, scale, zero_point, 4, axis=0)
    assert torch.equal(x, before)
    assert affine.quantize(torch.empty(0, 3), 1.0, 0, 8).shape == (0, 3)
    assert affine.fake_quantize(torch.empty(0, 3), torch.ones(3), 0, 8, axis=1).shape == (0, 3)


# --- parameters -------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    kind=bits_and_sign,
    ends=st.tuples(st.floats(-(2.0**99), 2.0**99), st.floats(-(2.0**99), 2.0**99)),
    narrow=st.booleans(),
    symmetric=st.booleans(),
)
def test_zero_is_exact_and_the_range_is_covered(kind, ends, narrow, symmetric):
    bits, signed = kind
    narrow, symmetric = narrow and bits > 1, symmetric and signed
    low, high = sorted(ends)
    lowest, highest = affine.quant_range(bits, signed, narrow)
    scale, zero_point = affine.choose_qparams(low, high, bits, signed=signed, symmetric=symmetric, narrow=narrow)
    assert scale.dtype == torch.float32
    assert zero_point.dtype == torch.int32
    assert lowest <= zero_point <= highest
    zero = torch.zeros(1)
    assert affine.fake_quantize(zero, scale, zero_point, bits, signed=signed, narrow=narrow) == 0
    s, z = Fraction(scale.item()), int(zero_point)
    if (lo := min(low, 0)) == (hi := max(high, 0)):
        assert s == 1
        return
    if symmetric:
        assert z == 0
        assert float(s) == pytest.approx(max(hi / highest, lo / lowest), rel=1e-6, abs=2e-38)
    elif s > Fraction(2) ** -125:
        assert float(s) == pytest.approx((hi - lo) / (highest - lowest), rel=1e-6)
        # The grid starts at most half a step from the range, besides the rounding of the scale to float32.
        slack = s / 2 + Fraction(2**16) * s * Fraction(1, 2**23)
        assert abs((lowest - z) * s - Fraction(lo)) <= slack
        assert abs((highest - z) * s - Fraction(hi)) <= slack


def test_parameters_by_hand():
    assert [p.item() for p in affine.choose_qparams(-1.0, 3.0, 2)] == [pytest.approx(4 / 3), -1]  # −2 + 0.75 rounded
    assert [p.item() for p in affine.choose_qparams(0.0, 6.0, 8, signed=False)] == [pytest.approx(6 / 255), 0]
    assert [p.item() for p in affine.choose_qparams(2.0, 6.0, 8, signed=False)] == [pytest.approx(6 / 255), 0]
    assert [p.item() for p in affine.choose_qparams(-6.0, -2.0, 8)] == [pytest.approx(6 / 255), 127]
    scale, zero_point = affine.choose_qparams(-2.0, 1.0, 8, symmetric=True, narrow=True)
    assert (scale.item(), zero_point.item()) == (pytest.approx(2 / 127), 0)
    weight = torch.tensor([-2.0, 1.0, 2.0])
    assert affine.quantize(weight, scale, zero_point, 8, narrow=True).tolist() == [-127, 64, 127]
    assert affine.quantize(2 * weight, scale, zero_point, 8, narrow=True).tolist() == [-127, 127, 127]
    assert [p.item() for p in affine.choose_qparams(-3.0, 1.0, 1, signed=False)] == [4, 1]


def test_parameters_equal_those_of_torchs_observers():
    """`torch.ao` computes in float32, so a zero point may differ where the quotient is all but half-way."""
    observer = pytest.importorskip("torch.ao.quantization.observer")
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        x = torch.randn(4, 30, generator=generator) + 2 * torch.randn(4, 1, generator=generator)
        peer = observer.PerChannelMinMaxObserver(ch_axis=0, dtype=torch.quint8, qscheme=torch.per_channel_affine)
        peer(x)
        scales, zero_points = peer.calculate_qparams()
        scale, zero_point = affine.choose_qparams(x.amin(1), x.amax(1), 8, signed=False)
        torch.testing.assert_close(scale, scales.float(), rtol=1e-6, atol=0)
        middle = (-x.amin(1).clamp(max=0).double() / scale).frac().sub(0.5).abs() < 1e-4
        assert (middle | (zero_point == zero_points)).all()


@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-45, 1e-30, 5.0, -5.0, 3e38, -3e38])
@pytest.mark.parametrize("symmetric", [False, True])
def test_constants_get_a_valid_scale(value, symmetric):
    x = torch.full((4,), value)
    scale, zero_point = affine.choose_qparams(x.min(), x.max(), 8, symmetric=symmetric)
    y = affine.fake_quantize(x, scale, zero_point, 8)
    torch.testing.assert_close(y, x, rtol=1e-6, atol=1e-38)


def test_the_widest_range():
    scale, _ = affine.choose_qparams(-3.4e38, 3.4e38, 1, signed=False)
    assert math.isfinite(scale)
    assert affine.choose_qparams(-3.4e38, 3.4e38, 8)[0] == pytest.approx(6.8e38 / 255)


def test_channels_have_parameters_of_their_own():
    low, high = torch.tensor([-1.0, 0.0, -3.0]), torch.tensor([1.0, 2.0, -1.0])
    for symmetric in (False, True):
        scale, zero_point = affine.choose_qparams(low, high, 4, symmetric=symmetric)
        for c in range(3):
            alone = affine.choose_qparams(low[c], high[c], 4, symmetric=symmetric)
            assert (scale[c], zero_point[c]) == alone


def test_error_is_at_most_half_a_step_inside_the_grid():
    x = torch.linspace(-3, 5, 1001)
    for bits in range(1, 17):
        scale, zero_point = affine.choose_qparams(-3.0, 5.0, bits, signed=False)
        error = (affine.fake_quantize(x, scale, zero_point, bits, signed=False) - x).abs().max()
        assert (
            error <= scale * (1 if bits > 1 else 1.5) + 1e-6
        )  # half a step, and half by the nudging of the zero point


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [affine.quantize, affine.fake_quantize])
def test_bad_input(function):
    x = torch.randn(3, 4)
    for bad in (math.nan, math.inf, -math.inf):
        worse = x.clone()
        worse[1, 1] = bad
        with pytest.raises(ValueError, match="x must be finite, got 1 NaN or infinite numbers"):
            function(worse, 1.0, 0, 8)
    for scale in (0.0, -1.0, math.nan, math.inf, 1e-40, 0):
        with pytest.raises(ValueError, match="scale must be positive and finite"):
            function(x, scale, 0, 8)
    for zero_point, signed in ((128, True), (-129, True), (-1, False), (256, False)):
        with pytest.raises(ValueError, match="zero_point must be from"):
            function(x, 1.0, zero_point, 8, signed=signed)
    with pytest.raises(ValueError, match="zero_point must be from -127 to 127, got"):
        function(x, 1.0, -128, 8, narrow=True)
    with pytest.raises(ValueError, match="zero_point must be from 0 to 255, got"):
        function(x, 1.0, torch.tensor(-1, dtype=torch.int8), 8, signed=False)  # 255 does not fit its type
    assert function(x, 1.0, torch.tensor(127, dtype=torch.int8), 8, signed=False).shape == x.shape
    with pytest.raises(TypeError, match="zero_point must hold integers, got torch.float32"):
        function(x, 1.0, torch.tensor(0.0), 8)
    with pytest.raises(ValueError, match="bits must be an integer from 1 to 16, got 17"):
        function(x, 1.0, 0, 17)
    with pytest.raises(TypeError, match="x must be a float tensor, got torch.int64"):
        function(torch.ones(3, dtype=torch.long), 1.0, 0, 8)
    with pytest.raises(TypeError, match="x must be a float tensor, got list"):
        function([1.0], 1.0, 0, 8)
    with pytest.raises(ValueError, match=r"scale must have shape \(\) with axis=None, got \(3,\)"):
        function(x, torch.ones(3), 0, 8)
    with pytest.raises(ValueError, match=r"scale must have shape \(4,\) with axis=1, got \(3,\)"):
        function(x, torch.ones(3), 0, 8, axis=1)
    with pytest.raises(ValueError, match=r"zero_point must have shape \(3,\) with axis=0, got \(4,\)"):
        function(x, torch.ones(3), torch.zeros(4, dtype=torch.int32), 8, axis=0)
    with pytest.raises(ValueError, match="axis must be one of the 2 axes"):
        function(x, torch.ones(3), 0, 8, axis=2)


def test_bad_codes_and_ranges():
    with pytest.raises(TypeError, match="q must be an integer tensor, got torch.float32"):
        affine.dequantize(torch.ones(3), 1.0, 0)
    with pytest.raises(ValueError, match="scale must be positive"):
        affine.dequantize(torch.ones(3, dtype=torch.int8), 0.0, 0)
    for low, high in ((math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0)):
        with pytest.raises(ValueError, match="must be finite"):
            affine.choose_qparams(low, high, 8)
    with pytest.raises(ValueError, match="low must not be above high, got 2.0 and 1.0"):
        affine.choose_qparams(2.0, 1.0, 8)
    for low, high in ((torch.zeros(2), torch.zeros(3)), (torch.zeros(2, 2), torch.zeros(2, 2)), (0.0, torch.zeros(1))):
        with pytest.raises(ValueError, match=r"low and high must both be \(\) or \(C,\)"):
            affine.choose_qparams(low, high, 8)
    with pytest.raises(ValueError, match="symmetric=True needs signed=True"):
        affine.choose_qparams(-1.0, 1.0, 8, signed=False, symmetric=True)


def test_numpy_computes_the_same():
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    scale, zero_point = np.float32(0.037), -7
    expected = np.clip(np.rint(x * (np.float32(1) / scale)) + zero_point, -8, 7).astype(np.int8)
    assert np.array_equal(affine.quantize(torch.from_numpy(x), float(scale), zero_point, 4).numpy(), expected)
