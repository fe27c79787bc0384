"""Integer-only arithmetic: products of codes in int32, rescaled by a fixed-point multiplier. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, sections 2.2 to 2.4. With ``r_i = S_i (q_i − Z_i)`` the product ``r_3 = r_1 r_2`` of two matrices is

    q_3 = Z_3 + M · accumulator,   accumulator = N Z_1 Z_2 − Z_1 a_2 − Z_2 a_1 + Σ q_1 q_2,   M = S_1 S_2 / S_3,

where N is the length of the sum and a_1, a_2 are the sums of the codes of a row of the first and of the second factor.
M becomes ``M_0 · 2^(−31 − shift)`` with an int32 M_0. Where there is room for the product in 64 bits, one rounding of
it is enough, and it is always to the nearest integer (a tie up). Jacob's library gemmlowp stays within 32 bits, as
ARM's instructions do, and rounds twice: `high_multiply` a tie up (−1.5 to −1), then `rounding_right_shift` away from
zero (−1.5 to −2). TensorFlow Lite has both, to be chosen when it is compiled. What was rounded twice is off by up to
``1/2 + 2^(−shift−1)``; a share of about ``2^(−shift−1)`` of the results is not the nearest integer but the one beside
it: a quarter at ``shift = 1``, 0.05 % at the 10 that is usual for a layer.
"""

import torch
from torch import Tensor

ROUNDINGS = ("once", "twice")
_INT32 = torch.iinfo(torch.int32)


def multiplier(real: float | Tensor) -> tuple[Tensor, Tensor]:
    """A positive number in fixed point: ``real ≈ m0 · 2^(−31 − shift)``, to a relative error of 2^−31.

    Parameters
    ----------
    real : float or Tensor
        Positive and finite, of any shape.

    Returns
    -------
    m0 : Tensor
        int32, the mantissa, rounded to nearest (a tie up), in [2^30, 2^31).
    shift : Tensor
        int32, how far to shift right; negative (to the left) from ``real = 1`` on.

    Raises
    ------
    ValueError
        If a number is not positive or not finite.
    """
    real = torch.as_tensor(real, dtype=torch.float64)
    if not ((real > 0) & real.isfinite()).all():
        raise ValueError(f"real must be positive and finite, got {real.tolist()}")
    mantissa, exponent = torch.frexp(real)  # in [0.5, 1)
    m0 = (mantissa * 2**31 + 0.5).floor().long()
    carried = m0 == 2**31  # the mantissa was rounded to 1
    return torch.where(carried, 2**30, m0).int(), (-exponent - carried.int()).int()


def high_multiply(a: Tensor, b: Tensor) -> Tensor:
    """gemmlowp's ``SaturatingRoundingDoublingHighMul``: ``⌊a b / 2^31 + 1/2⌋``, and 2^31 − 1 for a = b = −2^31.

    Parameters
    ----------
    a, b : Tensor
        Integers in the range of int32.

    Returns
    -------
    Tensor
        int32
    """
    return ((a.long() * b.long() + 2**30) >> 31).clamp(max=_INT32.max).int()


def rounding_right_shift(x: Tensor, exponent: int | Tensor) -> Tensor:
    """gemmlowp's ``RoundingDivideByPOT``: ``x / 2^exponent`` rounded to nearest, a tie away from zero.

    Parameters
    ----------
    x : Tensor
        Integers in the range of int32.
    exponent : int or Tensor
        Not negative; from 33 on, all results are 0.

    Returns
    -------
    Tensor
        int32

    Raises
    ------
    ValueError
        If an exponent is negative.
    """
    exponent = torch.as_tensor(exponent, device=x.device).long()
    if (exponent < 0).any():
        raise ValueError(f"exponent must not be negative, got {exponent.tolist()}")
    exponent = exponent.clamp(max=33)  # int64 has no more than 63 places to shift by
    half = (1 << exponent) >> 1
    return (x.sign() * ((x.long().abs() + half) >> exponent)).int()


def requantize(
    accumulator: Tensor,
    m0: Tensor,
    shift: Tensor,
    zero_point: int | Tensor,
    lowest: int,
    highest: int,
    *,
    rounding: str = "once",
) -> Tensor:
    """``clamp(zero_point + accumulator · m0 · 2^(−31 − shift), lowest, highest)`` in integers.

    Parameters
    ----------
    accumulator : Tensor
        int32
    m0, shift : Tensor
        From `multiplier`, of a shape that broadcasts to that of ``accumulator``: (C,) for its last axis, and
        (C, 1, 1) for the channels of an image.
    zero_point : int or Tensor
        In [lowest, highest], broadcast likewise.
    lowest, highest : int
        The limits of the result; a ReLU raises ``lowest`` to the zero point.
    rounding : {"once", "twice"}
        Once: the product, exact in int64, is shifted right with a tie rounded up. Twice, as gemmlowp: a negative
        ``shift`` is applied first, saturating at the ends of int32; then come `high_multiply` and, if it is positive,
        `rounding_right_shift`.

    Returns
    -------
    Tensor
        int32, the shape of ``accumulator``.

    Raises
    ------
    TypeError
        If a tensor does not hold integers, or ``accumulator`` is not int32.
    ValueError
        If ``m0`` is outside [2^30, 2^31), a zero point outside [lowest, highest], a shape does not broadcast, or
        ``rounding`` is unknown.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {ROUNDINGS}, got {rounding!r}")
    zero_point = torch.as_tensor(zero_point, device=accumulator.device)
    if accumulator.dtype != torch.int32:
        raise TypeError(f"accumulator must be int32, got {accumulator.dtype}")
    for name, tensor in (("m0", m0), ("shift", shift), ("zero_point", zero_point)):
        _check_integers(name, tensor)
        if not _broadcasts(tensor.shape, accumulator.shape):
            shapes = f"{tuple(tensor.shape)} for an accumulator of shape {tuple(accumulator.shape)}"
            raise ValueError(f"{name} must have a shape that broadcasts to the accumulator's, got {shapes}")
    m0, shift, zero_point = (tensor.long() for tensor in (m0, shift, zero_point))
    if (m0 < 2**30).any() or (m0 > _INT32.max).any():
        raise ValueError(f"m0 must be from 2^30 to 2^31 − 1, got {m0.tolist()}")
    if not ((lowest <= zero_point) & (zero_point <= highest)).all():
        raise ValueError(f"zero_point must be from {lowest} to {highest}, got {zero_point.tolist()}")
    if rounding == "once":
        exponent = (31 + shift).clamp(1, 63)  # the product is below 2^62: half of 2^63 rounds it to 0
        product = _left_shift(accumulator, -30 - shift) * m0
        scaled = (product + (1 << (exponent - 1))) >> exponent
    else:
        product = high_multiply(_left_shift(accumulator, -shift), m0)
        scaled = rounding_right_shift(product, shift.clamp(min=0)).long()
    return (scaled + zero_point).clamp(lowest, highest).int()


def linear(q1: Tensor, z1: int | Tensor, q2: Tensor, z2: int | Tensor) -> Tensor:
    """``Σ (q1 − z1)(q2 − z2)`` in the expanded form above: what needs no subtraction inside the sum.

    Parameters
    ----------
    q1 : Tensor
        (…, N) integers, the codes of the input, of up to 16 bits.
    z1 : int or Tensor
        Its zero point.
    q2 : Tensor
        (C, N) integers, the codes of a linear layer's weight, of up to 16 bits.
    z2 : int or Tensor
        Its zero point, or (C,).

    Returns
    -------
    Tensor
        (…, C) int32.

    Raises
    ------
    TypeError
        If a tensor does not hold integers.
    ValueError
        If the shapes do not fit, or a sum does not fit int32.
    """
    z1, z2 = (torch.as_tensor(zero_point, device=q1.device) for zero_point in (z1, z2))
    for name, tensor in (("q1", q1), ("z1", z1), ("q2", q2), ("z2", z2)):
        _check_integers(name, tensor)
    if not q1.dim() or q2.dim() != 2 or q1.shape[-1] != q2.shape[-1]:
        raise ValueError(f"q1 must be (…, N) and q2 (C, N), got {tuple(q1.shape)} and {tuple(q2.shape)}")
    if z1.dim() or not _broadcasts(z2.shape, q2.shape[:1]):
        raise ValueError(f"z1 must be () and z2 () or ({len(q2)},), got {tuple(z1.shape)} and {tuple(z2.shape)}")
    q1, z1, q2, z2 = (tensor.long() for tensor in (q1, z1, q2, z2))
    a1, a2 = q1.sum(-1, keepdim=True), q2.sum(-1)
    accumulator = q1.shape[-1] * z1 * z2 - z1 * a2 - z2 * a1 + q1 @ q2.T
    if (accumulator != accumulator.int()).any():
        raise ValueError(f"a sum of {q1.shape[-1]} products does not fit int32; use fewer bits or shorter sums")
    return accumulator.int()


def _left_shift(x: Tensor, places: Tensor) -> Tensor:
    """To the left by ``places``, if they are positive, saturating at the ends of int32. int64."""
    # A shift by 31 already takes every number but 0 to an end.
    return ((1 << places.clamp(0, 31)) * x.long()).clamp(_INT32.min, _INT32.max)


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False))


def _check_integers(name: str, x: Tensor) -> None:
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, got {x.dtype}")
