"""Differentiable soft quantization (DSQ): a staircase with slopes, that training makes steep. Chapter 05.

Gong et al., "Differentiable soft quantization: bridging full-precision and low-bit neural networks", ICCV 2019, arXiv
1908.05033. The range [l, u] is cut into n steps of width Δ = (u − l) / n, with n = 2^bits − 1. In step i, with the
middle ``m_i = l + (i + 1/2) Δ``, the hard jump is replaced by a piece of a hyperbolic tangent, scaled to join the next:

    φ(x) = s tanh(k (x − m_i)),   Q(x) = l + Δ (i + (φ(x) + 1) / 2),   s = 1 / tanh(k Δ / 2).

``α = 1 − tanh(k Δ / 2)`` in (0, 1) is its distance from the staircase: with ``k = ln(2/α − 1) / Δ`` and
``s = 1 / (1 − α)`` it is the staircase itself for α → 0 and a straight line for α → 1. Forward, the staircase is
computed; backward, the gradient is that of Q, also with respect to l, u and α, which are learned.

Two things are ours. The grid must hold an exact 0 and have whole zero points to run with integers, so the range is
first moved to the nearest such grid, and its gradient goes straight through that; weights have ``l = −u`` and
n = 2^bits − 2. And as a range and an α stand for all N numbers of a tensor, their gradients are divided by √N, so that
one learning rate fits them and the weights.
"""

import math

import torch
from torch import Tensor, nn

from compress_lib.quantization.integer import affine
from compress_lib.quantization.integer.fake_quant import ActivationQuantizer, FakeQuantizedLayer, WeightQuantizer
from compress_lib.quantization.integer.qparams import QParams

_FIRST_ALPHA = 0.2


def soft_quantize(
    x: Tensor,
    low: float | Tensor,
    high: float | Tensor,
    bits: int,
    alpha: float | Tensor,
    *,
    narrow: bool = False,
    hard: bool = False,
) -> Tensor:
    """Q(x); l below the range and u above it.

    Parameters
    ----------
    x : Tensor
        Float, of any shape.
    low, high : float or Tensor
        l and u, ``low < high``; tensors broadcast to ``x``.
    bits, narrow : as for `affine.quant_range`.
    alpha : float or Tensor
        In (0, 1), broadcast likewise.
    hard : bool
        The value is that of the staircase; the gradient is the same.

    Returns
    -------
    Tensor
        The shape and dtype of ``x``; with gradients with respect to ``x``, ``low``, ``high`` and ``alpha``.

    Raises
    ------
    ValueError
        If ``low < high`` or ``0 < alpha < 1`` does not hold; and for what `affine.quant_range` refuses.
    """
    lowest, highest = affine.quant_range(bits, signed=False, narrow=narrow)
    low, high, alpha = (torch.as_tensor(t, dtype=x.dtype, device=x.device) for t in (low, high, alpha))
    if not (low < high).all():
        raise ValueError(f"low must be below high, got {low.tolist()} and {high.tolist()}")
    if not ((alpha > 0) & (alpha < 1)).all():
        raise ValueError(f"alpha must be between 0 and 1, got {alpha.tolist()}")
    steps = highest - lowest
    width = (high - low) / steps
    place = ((x - low) / width).clamp(0, steps)
    index = place.detach().floor().clamp(max=steps - 1)
    phi = torch.tanh((place - index - 0.5) * torch.log(2 / alpha - 1)) / (1 - alpha)
    soft = low + width * (index + (phi + 1) / 2)
    return _with_gradient_of((low + width * place.round()).detach(), soft) if hard else soft


class SoftActivationQuantizer(ActivationQuantizer):
    """Rounds an activation to a grid whose range, and whose α in the backward pass, are learned.

    Parameters
    ----------
    calibrated : ActivationQuantizer
        Whose grid is the first.
    """

    def __init__(self, calibrated: ActivationQuantizer) -> None:
        super().__init__(calibrated.bits, calibrated.observer)
        self.state = "frozen"
        self.scale.copy_(calibrated.scale)
        self.zero_point.copy_(calibrated.zero_point)
        low, high = self._ends()
        self.low, self.high = nn.Parameter(low.clone()), nn.Parameter(high.clone())
        self.alpha_logit = nn.Parameter(torch.tensor(_logit(_FIRST_ALPHA)))

    def forward(self, x: Tensor) -> Tensor:
        self.update_qparams()
        hard = affine.fake_quantize(x.detach(), self.scale, self.zero_point, self.bits, signed=False)
        if not torch.is_grad_enabled():
            return hard
        low, high, logit = _scaled(x.numel(), self.low, self.high, self.alpha_logit)
        low, high = (_with_gradient_of(end, learned) for end, learned in zip(self._ends(), (low, high), strict=True))
        return _with_gradient_of(hard, soft_quantize(x, low, high, self.bits, logit.sigmoid()))

    def update_qparams(self) -> None:
        """Take the grid of the range that was learned."""
        low, high = self.low.detach().double().clamp(max=0), self.high.detach().double().clamp(min=0)
        scale, zero_point = affine.choose_qparams(low, high, self.bits, signed=False)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    def qparams(self) -> QParams:
        """The grid of the range that was learned."""
        self.update_qparams()
        return super().qparams()

    def _ends(self) -> Tensor:
        codes = torch.tensor(affine.quant_range(self.bits, signed=False), device=self.scale.device)
        return affine.dequantize(codes, self.scale, self.zero_point)


class SoftWeightQuantizer(WeightQuantizer):
    """Rounds a weight to a grid whose range, and whose α in the backward pass, are learned.

    Parameters
    ----------
    fitted : WeightQuantizer
    weight : Tensor
        Whose grid is the first.
    """

    def __init__(self, fitted: WeightQuantizer, weight: Tensor) -> None:
        scale = fitted.scale(weight)
        super().__init__(fitted.bits, len(scale) if scale.dim() else None, fitted.range)
        del self.fraction
        self._highest = affine.quant_range(self.bits, signed=True, narrow=True)[1]
        self.high = nn.Parameter(scale * self._highest)
        self.alpha_logit = nn.Parameter(torch.full_like(scale, _logit(_FIRST_ALPHA)))

    def fit(self, weight: Tensor) -> None:
        """Nothing: the range is learned."""

    def scale(self, weight: Tensor) -> Tensor:
        """The scale that was learned, () or (C,), float32."""
        high = self.high.detach().clamp(min=0)
        return affine.choose_qparams(-high, high, self.bits, symmetric=True, narrow=True)[0]

    def forward(self, weight: Tensor, scale: Tensor) -> Tensor:
        hard = super().forward(weight.detach(), scale)
        if not torch.is_grad_enabled():
            return hard
        high, logit = _scaled(weight.numel() // scale.numel(), self.high, self.alpha_logit)
        high = _with_gradient_of(scale * self._highest, high)
        if self.axis is not None:
            high, logit = (t.view(-1, *[1] * (weight.dim() - 1)) for t in (high, logit))
        return _with_gradient_of(hard, soft_quantize(weight, -high, high, self.bits, logit.sigmoid(), narrow=True))


def replace_quantizers_(network: nn.Module) -> None:
    """Replace the quantizers of a calibrated train form by soft ones with the same grids, in place."""
    soft = {m: SoftActivationQuantizer(m) for m in network.modules() if isinstance(m, ActivationQuantizer)}
    for name, module in list(network.named_modules()):
        if isinstance(module, ActivationQuantizer):
            network.set_submodule(name, soft[module])
        elif isinstance(module, FakeQuantizedLayer):
            module.set_input_quantizer(soft[module.input_quantizer])
            module.weight_quantizer = SoftWeightQuantizer(module.weight_quantizer, module.layer.weight.detach())


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """``value`` exactly, with the gradient of ``other``."""
    return value + (other - other.detach())


def _scaled(count: int, *parameters: Tensor) -> list[Tensor]:
    """The parameters, with gradients that are divided by the square root of ``count``."""
    return [_with_gradient_of(p.detach(), p / math.sqrt(count)) for p in parameters]


def _logit(alpha: float) -> float:
    return math.log(alpha / (1 - alpha))
