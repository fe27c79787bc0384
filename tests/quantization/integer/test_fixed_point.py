import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compress_lib.quantization.integer import affine, fixed_point

LEAST, GREATEST = -(2**31), 2**31 - 1
int32s = st.one_of(st.integers(LEAST, GREATEST), st.sampled_from([LEAST, LEAST + 1, -1, 0, 1, GREATEST]))
mantissas = st.one_of(st.integers(2**30, GREATEST), st.sampled_from([2**30, 2**30 + 1, GREATEST]))


def tensor(*values):
    return torch.tensor(values, dtype=torch.int32)


def gemmlowp_high_multiply(a: int, b: int) -> int:
    """As the library writes it in C++, where a quotient is rounded towards zero."""
    if a == b == LEAST:
        return GREATEST
    nudge = 2**30 if a * b >= 0 else 1 - 2**30
    return math.trunc(Fraction(a * b + nudge, 2**31))


def gemmlowp_divide(x: int, exponent: int) -> int:
    mask = 2**exponent - 1
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0))


def direct(q1, z1, q2, z2):
    """In Python's integers."""
    q1, q2 = q1.numpy().astype(object), q2.numpy().astype(object)
    z2 = np.asarray(z2).astype(object).reshape(-1, 1)
    return (q1 - int(z1)) @ (q2 - z2).T


# --- the two roundings ------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(a=int32s, b=int32s)
@example(LEAST, LEAST)
@example(3, -(2**30))
def test_high_multiply_is_gemmlowps(a, b):
    found = fixed_point.high_multiply(tensor(a), tensor(b))
    assert found.dtype == torch.int32
    assert found.item() == gemmlowp_high_multiply(a, b)
    assert found.item() == min(math.floor(Fraction(a * b, 2**31) + Fraction(1, 2)), GREATEST)


@settings(max_examples=300, deadline=None)
@given(x=int32s, exponent=st.integers(0, 80))
@example(LEAST, 32)
@example(LEAST, 33)
def test_rounding_right_shift_is_gemmlowps(x, exponent):
    found = fixed_point.rounding_right_shift(tensor(x), exponent)
    assert found.dtype == torch.int32
    assert found.item() == gemmlowp_divide(x, exponent)
    away = math.floor(Fraction(abs(x), 2**exponent) + Fraction(1, 2))
    assert found.item() == (away if x >= 0 else -away)


def test_how_ties_are_rounded():
    x = tensor(-5, -3, -1, 1, 3, 5)
    assert fixed_point.rounding_right_shift(x, 1).tolist() == [-3, -2, -1, 1, 2, 3]
    assert fixed_point.high_multiply(x, tensor(2**30)).tolist() == [-2, -1, 0, 1, 2, 3]
    with pytest.raises(ValueError, match="exponent must not be negative, got -1"):
        fixed_point.rounding_right_shift(x, -1)


# --- the multiplier ---------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(real=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
@example(1 - 2**-53)
@example(0.5)
@example(1.0)
@example(5e-324)
def test_multiplier_is_the_number_rounded_to_31_bits(real):
    m0, shift = fixed_point.multiplier(real)
    assert m0.dtype == shift.dtype == torch.int32
    assert 2**30 <= int(m0) < 2**31
    value = Fraction(int(m0)) / Fraction(2) ** (31 + int(shift))
    assert abs(value - Fraction(real)) <= Fraction(real) / 2**31
    assert (shift < 0) == (value >= 1)


def test_multiplier_by_hand():
    assert [p.tolist() for p in fixed_point.multiplier(torch.tensor([0.5, 0.25, 0.75, 1.0, 3.0]))] == [
        [2**30, 2**30, 3 * 2**29, 2**30, 3 * 2**29],
        [0, 1, 0, -1, -2],
    ]
    assert [p.item() for p in fixed_point.multiplier(1 - 2**-53)] == [2**30, -1]  # rounded to 1
    tie = (2**30 + 0.5) / 2**31
    assert fixed_point.multiplier(tie)[0] == 2**30 + 1


@pytest.mark.parametrize("real", [0.0, -0.5, math.nan, math.inf, [0.5, 0.0]])
def test_bad_multipliers(real):
    with pytest.raises(ValueError, match="real must be positive and finite, got"):
        fixed_point.multiplier(torch.tensor(real))


# --- requantize -------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(
    accumulator=int32s, m0=mantissas, shift=st.integers(-40, 80), limits=st.tuples(*[st.integers(-(2**15), 2**15)] * 3)
)
@example(-3, 2**30, 1, (-9, 0, 9))
@example(LEAST, GREATEST, 32, (-9, 0, 9))
@example(-1, 2**30, -31, (LEAST, 0, GREATEST))
@example(3, 2**30, -32, (LEAST, 0, GREATEST))
def test_requantize_by_big_integers(accumulator, m0, shift, limits):
    lowest, zero_point, highest = sorted(limits)
    shifted = min(max(accumulator * 2 ** max(-shift, 0), LEAST), GREATEST)
    scaled = {
        "once": math.floor(Fraction(accumulator * m0) / Fraction(2) ** (31 + shift) + Fraction(1, 2)),
        "twice": gemmlowp_divide(gemmlowp_high_multiply(shifted, m0), max(shift, 0)),
    }
    for rounding in fixed_point.ROUNDINGS:
        found = fixed_point.requantize(
            tensor(accumulator), tensor(m0), tensor(shift), zero_point, lowest, highest, rounding=rounding
        )
        assert found.dtype == torch.int32
        assert found.tolist() == [min(max(scaled[rounding] + zero_point, lowest), highest)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-14, 3), zero_point=st.integers(-128, 127))
@pytest.mark.parametrize("rounding", fixed_point.ROUNDINGS)
def test_at_most_one_off_the_rounded_real_number(rounding, seed, exponent, zero_point):
    generator = torch.Generator().manual_seed(seed)
    real = 2.0**exponent
    accumulator = (torch.randn(500, generator=generator, dtype=torch.float64) * 100 / real).round().int()
    m0, shift = fixed_point.multiplier(real)
    wide = fixed_point.requantize(accumulator, m0, shift, zero_point, -(2**20), 2**20, rounding=rounding)
    exact = accumulator.double() * real + zero_point
    second = 2.0 ** -(int(shift) + 1) if rounding == "twice" and shift > 0 else 0
    assert (wide - exact).abs().max() <= 0.5 + second + 1e-6
    assert (wide - exact.round()).abs().max() <= 1
    narrow = fixed_point.requantize(accumulator, m0, shift, zero_point, -128, 127, rounding=rounding)
    assert torch.equal(narrow, wide.clamp(-128, 127))


@pytest.mark.parametrize("shift", [1, 3, 6, 10])
def test_how_often_two_roundings_differ_from_one(shift):
    real = math.sqrt(0.5) * 2.0**-shift
    accumulator = torch.arange(1, 10**6, dtype=torch.int32)
    once, twice = (
        fixed_point.requantize(accumulator, *fixed_point.multiplier(real), 0, 0, GREATEST, rounding=rounding)
        for rounding in fixed_point.ROUNDINGS
    )
    nearest = (accumulator.double() * real).round()
    assert (once != nearest).double().mean().item() < 1e-4  # the multiplier itself is off by up to 2^-31 of it
    assert (twice != nearest).double().mean().item() == pytest.approx(2.0 ** -(shift + 1), rel=0.1)


def test_requantize_per_channel():
    generator = torch.Generator().manual_seed(0)
    accumulator = torch.randint(-(2**20), 2**20, (5, 3, 4, 4), generator=generator, dtype=torch.int32)
    m0, shift = fixed_point.multiplier(torch.tensor([1e-4, 0.3, 2.5]))
    zero_point = tensor(1, 2, 3)
    spread = [p.view(3, 1, 1) for p in (m0, shift, zero_point)]
    found = fixed_point.requantize(accumulator, *spread, -128, 127)
    last = fixed_point.requantize(accumulator.movedim(1, -1).contiguous(), m0, shift, zero_point, -128, 127)
    assert torch.equal(found.movedim(1, -1), last)
    for c in range(3):
        alone = fixed_point.requantize(accumulator[:, c], m0[c], shift[c], int(zero_point[c]), -128, 127)
        assert torch.equal(found[:, c], alone)


def test_a_relu_is_a_limit():
    accumulator = tensor(-1000, -1, 0, 1, 10, 1000)
    found = fixed_point.requantize(accumulator, *fixed_point.multiplier(0.5), -10, -10, 90)
    assert found.tolist() == [-10, -10, -10, -9, -5, 90]


def test_bad_requantize():
    x, m0, shift = torch.zeros(2, 3, dtype=torch.int32), tensor(2**30), tensor(0)
    for bad in (x.long(), x.float()):
        with pytest.raises(TypeError, match="accumulator must be int32, got"):
            fixed_point.requantize(bad, m0, shift, 0, -128, 127)
    with pytest.raises(TypeError, match="m0 must hold integers, got torch.float32"):
        fixed_point.requantize(x, m0.float(), shift, 0, -128, 127)
    for bad in (2**30 - 1, 0, -(2**31)):
        with pytest.raises(ValueError, match=r"m0 must be from 2\^30"):
            fixed_point.requantize(x, tensor(bad), shift, 0, -128, 127)
    with pytest.raises(ValueError, match=r"rounding must be one of \('once', 'twice'\), got 'up'"):
        fixed_point.requantize(x, m0, shift, 0, -128, 127, rounding="up")
    for bad in (-129, 128):
        with pytest.raises(ValueError, match=f"zero_point must be from -128 to 127, got {bad}"):
            fixed_point.requantize(x, m0, shift, bad, -128, 127)
    for shape in ((2,), (2, 1, 1), (1, 2, 3)):
        with pytest.raises(ValueError, match="m0 must have a shape that broadcasts to the accumulator's"):
            fixed_point.requantize(x, m0.expand(shape), shift, 0, -128, 127)


# --- the sum ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(1, 6)),
    bits=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    per_channel=st.booleans(),
    data=st.data(),
)
def test_the_expanded_form_is_the_direct_form(seed, sizes, bits, per_channel, data):
    generator = torch.Generator().manual_seed(seed)
    rows, length, columns = sizes
    q, z = [], []
    for shape, width in zip(((rows, length), (columns, length)), bits, strict=True):
        lowest, highest = affine.quant_range(width, width > 1 and data.draw(st.booleans()))
        q.append(torch.randint(lowest, highest + 1, shape, generator=generator, dtype=torch.int16))
        z.append(torch.randint(lowest, highest + 1, (), generator=generator))
    z2 = z[1].expand(columns) if per_channel else int(z[1])
    found = fixed_point.linear(q[0], int(z[0]), q[1], z2)
    assert found.dtype == torch.int32
    assert found.tolist() == direct(q[0], z[0], q[1], z2).tolist()


def test_a_zero_point_for_each_channel_and_more_axes():
    generator = torch.Generator().manual_seed(0)
    q1 = torch.randint(0, 256, (2, 3, 50), generator=generator, dtype=torch.uint8)
    q2 = torch.randint(-128, 128, (4, 50), generator=generator, dtype=torch.int8)
    z2 = tensor(-3, 0, 5, 127)
    found = fixed_point.linear(q1, 131, q2, z2)
    assert found.tolist() == direct(q1.view(6, 50), 131, q2, z2).reshape(2, 3, 4).tolist()
    assert fixed_point.linear(q1[0, 0], 131, q2, z2).tolist() == found[0, 0].tolist()


def test_the_ends_of_int32():
    q1, q2 = torch.full((1, 4), 2**14), torch.full((1, 4), -(2**15))
    assert fixed_point.linear(q1, 0, q2, 0).item() == LEAST
    for second in (q2 - 1, -q2):
        with pytest.raises(ValueError, match="a sum of 4 products does not fit int32"):
            fixed_point.linear(q1, 0, second, 0)


def test_bad_factors():
    q1, q2 = torch.ones(2, 3, dtype=torch.int8), torch.ones(4, 3, dtype=torch.int8)
    for factors in ((q1.float(), 0, q2, 0), (q1, 0.5, q2, 0), (q1, 0, q2.bool(), 0)):
        with pytest.raises(TypeError, match="must hold integers"):
            fixed_point.linear(*factors)
    for factors in ((q1, q2.T), (q1, q2[0]), (torch.tensor(1), q2)):
        with pytest.raises(ValueError, match=r"q1 must be \(…, N\) and q2 \(C, N\)"):
            fixed_point.linear(factors[0], 0, factors[1], 0)
    for z1, z2 in ((tensor(0, 0), 0), (0, tensor(0, 0)), (0, torch.zeros(4, 1, dtype=torch.int32))):
        with pytest.raises(ValueError, match=r"z1 must be \(\) and z2 \(\) or \(4,\)"):
            fixed_point.linear(q1, z1, q2, z2)


def test_a_layer_in_integers_is_the_layer_on_the_grid_rounded():
    """Jacob's equation from end to end: input, weight and output in 8 bits, a bias in int32 at the scale S1 S2."""
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(shape, generator=generator) for shape in ((200, 64), (32, 64), (32,)))
    s1, z1 = affine.choose_qparams(x.min(), x.max(), 8, signed=False)
    s2, z2 = affine.choose_qparams(w.amin(1), w.amax(1), 8, symmetric=True, narrow=True)
    y = x @ w.T + b
    s3, z3 = affine.choose_qparams(y.min(), y.max(), 8)
    q1, q2 = affine.quantize(x, s1, z1, 8, signed=False), affine.quantize(w, s2, z2, 8, narrow=True, axis=0)
    scale = s1.double() * s2.double()
    bias = (b / scale).round().int()
    accumulator = fixed_point.linear(q1, z1, q2, z2) + bias
    q3 = fixed_point.requantize(accumulator, *fixed_point.multiplier(scale / s3), z3, -128, 127)
    on_grid = (q1.double() - z1) * s1.double() @ ((q2.double()) * s2.double()[:, None]).T + bias * scale
    expected = ((on_grid / s3).round() + z3).clamp(-128, 127)
    difference = (q3 - expected).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() < 2e-3
    assert (affine.dequantize(q3, s3, z3) - y).abs().mean() < s3
