"""Affine quantization: real numbers on a grid of integers, ``r = S (q − Z)``. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877. S is the scale, a positive float32; Z the zero point, the integer that stands for exactly 0. With B
bits

    q = clamp(round(x · (1/S)) + Z, lowest, highest),

where ``round`` goes to the nearest integer and from the middle between two to the even one, and 1/S is rounded to
float32 before the product: the arithmetic of ``torch.fake_quantize_per_tensor_affine`` and ``…_per_channel_affine``,
bit for bit. (One exception: the latter returns S (q − Z) in float64 if x is; here, as in the former, it has been
rounded to float32.)

One bit has no signed form, whose codes would be −1 and 0 in two's complement: it is unsigned, with codes 0 and 1, one
of which stands for 0. (Weights of ±1 have no zero point; they are the subject of Chapter 08.)
"""

from typing import Any

import torch
from torch import Tensor

_SMALLEST, _LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


def quant_range(bits: int, signed: bool, narrow: bool = False) -> tuple[int, int]:
    """The lowest and the highest code.

    Parameters
    ----------
    bits : int
        From 1 to 16; signed or narrow codes need 2.
    signed : bool
        ``−2^(bits−1) … 2^(bits−1) − 1`` if true, ``0 … 2^bits − 1`` if not.
    narrow : bool
        Without the lowest of them: −127 … 127 or 1 … 255 of 8 bits. Jacob's weights leave it out, so that the sum of
        two products of int8 numbers fits int16.

    Returns
    -------
    (int, int)

    Raises
    ------
    ValueError
        If ``bits`` is no integer in this range.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 16:
        raise ValueError(f"bits must be an integer from 1 to 16, got {bits!r}")
    if bits == 1 and (signed or narrow):
        raise ValueError("bits=1 has the codes 0 and 1 only: it needs signed=False and narrow=False")
    lowest = -(2 ** (bits - 1)) if signed else 0
    return lowest + narrow, lowest + 2**bits - 1


def choose_qparams(
    low: float | Tensor,
    high: float | Tensor,
    bits: int,
    *,
    signed: bool = True,
    symmetric: bool = False,
    narrow: bool = False,
) -> tuple[Tensor, Tensor]:
    """The scale and the zero point for numbers in [low, high].

    The range is first widened to contain 0. Then ``S = (high − low) / (highest − lowest)``, and Z is
    ``lowest − low / S`` rounded (half to even): 0 is exact, at the price that the grid starts up to S/2 away from
    ``low``. A range of nothing but 0 gets the scale 1.

    Parameters
    ----------
    low, high : float or Tensor
        Two numbers, or two tensors of shape (C,) for C channels.
    bits, signed, narrow : as for `quant_range`.
    symmetric : bool
        Z = 0, and S the least scale at which both ends fit; only for signed codes. With ``narrow``, as for Jacob's
        weights, it is ``max(|low|, |high|) / highest``.

    Returns
    -------
    scale : Tensor
        () or (C,), float32, a positive normal number.
    zero_point : Tensor
        The same shape, int32, in [lowest, highest].

    Raises
    ------
    ValueError
        If a number is NaN or infinite, ``low > high``, the shapes differ or have more than one axis, or ``symmetric``
        is asked of unsigned codes; and for what `quant_range` refuses.
    """
    lowest, highest = quant_range(bits, signed, narrow)
    if symmetric and not signed:
        raise ValueError(
            "symmetric=True needs signed=True: with the zero point 0, unsigned codes have no negative numbers"
        )
    low, high = (torch.as_tensor(end, dtype=torch.float64).detach() for end in (low, high))
    if low.shape != high.shape or low.dim() > 1:
        raise ValueError(f"low and high must both be () or (C,), got {tuple(low.shape)} and {tuple(high.shape)}")
    check_finite("low", low)
    check_finite("high", high)
    if (low > high).any():
        raise ValueError(f"low must not be above high, got {low.tolist()} and {high.tolist()}")
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = torch.maximum(low / lowest, high / highest) if symmetric else (high - low) / (highest - lowest)
    scale = torch.where(high > low, scale.clamp(_SMALLEST, _LARGEST), 1.0).float()
    if symmetric:
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    return scale, (lowest - low / scale).round().clamp(lowest, highest).int()


def quantize(
    x: Tensor,
    scale: float | Tensor,
    zero_point: int | Tensor,
    bits: int,
    *,
    signed: bool = True,
    narrow: bool = False,
    axis: int | None = None,
) -> Tensor:
    """The integer codes of real numbers.

    Parameters
    ----------
    x : Tensor
        Float, of any shape.
    scale : float or Tensor
        Positive; one number, or (C,) with ``axis``.
    zero_point : int or Tensor
        In [lowest, highest]; one integer, or (C,) with ``axis``.
    bits, signed, narrow : as for `quant_range`.
    axis : int, optional
        The axis of ``x`` with C channels that have a scale each.

    Returns
    -------
    Tensor
        The shape of ``x``; int8 or uint8 for up to 8 bits, then int16, and int32 for 16 bits unsigned.

    Raises
    ------
    TypeError
        If ``x`` is not a float tensor, or ``zero_point`` holds no integers.
    ValueError
        If ``x`` has NaN or infinite numbers, a scale is not positive or has no finite inverse in float32, a zero point
        is no code, or shapes do not fit; and for what `quant_range` refuses.
    """
    lowest, highest = quant_range(bits, signed, narrow)
    scale, zero_point = _checked(x, scale, zero_point, axis, lowest, highest)
    codes = to_codes(x, scale.reciprocal(), zero_point).clamp_(lowest, highest)
    if bits <= 8:
        return codes.to(torch.int8 if signed else torch.uint8)
    return codes.to(torch.int16 if highest < 2**15 else torch.int32)


def dequantize(q: Tensor, scale: float | Tensor, zero_point: int | Tensor, *, axis: int | None = None) -> Tensor:
    """The real numbers that integer codes stand for, ``S (q − Z)``.

    Parameters
    ----------
    q : Tensor
        Integers; ``q − Z`` is exact up to 2^24, which all codes of up to 16 bits are.
    scale, zero_point, axis : as for `quantize`.

    Returns
    -------
    Tensor
        The shape of ``q``, float32.

    Raises
    ------
    TypeError, ValueError
        As for `quantize`.
    """
    check_integers("q", q)
    return from_codes(q, *_broadcast(q, scale, zero_point, axis))


def fake_quantize(
    x: Tensor,
    scale: float | Tensor,
    zero_point: int | Tensor,
    bits: int,
    *,
    signed: bool = True,
    narrow: bool = False,
    axis: int | None = None,
) -> Tensor:
    """Real numbers rounded to the grid, ``dequantize(quantize(x))``, with the straight-through gradient.

    The gradient with respect to ``x`` is 1 where the code, before the clamp, is in [lowest, highest], and 0 elsewhere.
    There is none with respect to the scale and the zero point.

    Parameters
    ----------
    x, scale, zero_point, bits, signed, narrow, axis : as for `quantize`.

    Returns
    -------
    Tensor
        The shape and dtype of ``x``.

    Raises
    ------
    TypeError, ValueError
        As for `quantize`.
    """
    lowest, highest = quant_range(bits, signed, narrow)
    scale, zero_point = _checked(x, scale, zero_point, axis, lowest, highest)
    return _FakeQuantize.apply(x, scale, zero_point, lowest, highest)


def to_codes(x: Tensor, inverse_scale: float | Tensor, zero_point: int | Tensor) -> Tensor:
    """The arithmetic of `quantize`, without its checks and before its clamp: whole floats of at least 32 bits.

    For values that were checked before, such as those of a `qparams.QParams`: the checks take longer than a small
    layer.
    """
    wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    return (wide * inverse_scale).round_().add_(zero_point)  # adding Z = 0 turns a −0 into 0


def from_codes(q: Tensor, scale: float | Tensor, zero_point: int | Tensor) -> Tensor:
    """The arithmetic of `dequantize`, without its checks."""
    return (q.float() - zero_point) * scale


def check_float(name: str, x: Tensor) -> None:
    """A ``TypeError`` with the name refuses what is not a float tensor."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{name} must be a float tensor, got {getattr(x, 'dtype', type(x).__name__)}")


def check_integers(name: str, q: Tensor) -> None:
    """A ``TypeError`` with the name refuses what is not an integer tensor."""
    if not isinstance(q, Tensor) or q.is_floating_point() or q.is_complex() or q.dtype == torch.bool:
        raise TypeError(f"{name} must be an integer tensor, got {getattr(q, 'dtype', type(q).__name__)}")


def check_scale(name: str, scale: Tensor) -> None:
    """A ``ValueError`` with the name refuses scales that are not positive or have no finite inverse in float32."""
    if not ((scale > 0) & scale.isfinite() & scale.reciprocal().isfinite()).all():
        raise ValueError(f"{name} must be positive and finite, and so must its inverse, got {scale.tolist()}")


def check_finite(name: str, x: Tensor) -> None:
    """A ``ValueError`` with the name refuses NaN and infinite numbers."""
    # A finite sum has finite terms, and takes a tenth of the time that the ends take of a channels-last tensor.
    if x.numel() and not x.sum().isfinite() and not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got {int((~x.isfinite()).sum())} NaN or infinite numbers")


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int) -> Tensor:
        codes = to_codes(x, scale.reciprocal(), zero_point)
        clamped = codes.clamp(lowest, highest)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(codes == clamped)
        return clamped.float().sub_(zero_point).mul_(scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None


def _checked(
    x: Tensor, scale: float | Tensor, zero_point: int | Tensor, axis: int | None, lowest: int, highest: int
) -> tuple[Tensor, Tensor]:
    check_float("x", x)
    check_finite("x", x)
    scale, zero_point = _broadcast(x, scale, zero_point, axis)
    if (zero_point < lowest).any() or (zero_point > highest).any():
        raise ValueError(f"zero_point must be from {lowest} to {highest}, got {zero_point.flatten().tolist()}")
    return scale, zero_point


def _broadcast(x: Tensor, scale: float | Tensor, zero_point: int | Tensor, axis: int | None) -> tuple[Tensor, Tensor]:
    """The scale, float32, and the zero point, int64, checked and with axes to be broadcast over ``x``."""
    scale = torch.as_tensor(scale, dtype=torch.float32, device=x.device).detach()
    zero_point = torch.as_tensor(zero_point, device=x.device)
    if zero_point.dtype.is_floating_point or zero_point.dtype == torch.bool:
        raise TypeError(f"zero_point must hold integers, got {zero_point.dtype}")
    if axis is not None and not -x.dim() <= axis < x.dim():
        raise ValueError(f"axis must be one of the {x.dim()} axes of a tensor of shape {tuple(x.shape)}, got {axis}")
    shape = () if axis is None else (x.shape[axis],)
    if axis is not None and not zero_point.dim():
        zero_point = zero_point.expand(shape)
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {shape} with axis={axis}, got {tuple(tensor.shape)}")
    check_scale("scale", scale)
    if axis is None:
        return scale, zero_point.long()
    spread = [1] * x.dim()
    spread[axis] = -1
    return scale.view(spread), zero_point.long().view(spread)
