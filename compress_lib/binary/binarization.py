"""The sign, a gradient for it, and the scale that brings it nearest to what it replaces. Chapter 08.

The sign of 0 is +1. Its derivative is 0 wherever there is one, so training puts another in its place, the
straight-through estimator: that of ``clip(x, −1, 1)``, which is 1 for ``|x| ≤ 1`` and 0 elsewhere (Courbariaux, Hubara
et al., "Binarized neural networks", NIPS 2016, arXiv 1602.02830).

A filter W of n weights is nearest to αB with signs B, in the sense of ``‖W − αB‖² = ‖W‖² − 2α ⟨W, B⟩ + α² n``, for
B = sign W, which makes the inner product largest, and then for α = ⟨W, sign W⟩ / n = ‖W‖₁ / n (Rastegari, Ordonez,
Redmon, Farhadi, "XNOR-Net", ECCV 2016, arXiv 1603.05279, equations 4 to 6). Let C be the loss and G its gradient with
respect to W̃ = α sign W. As α depends on all of W, the chain rule with the straight-through estimator gives::

    ∂C/∂W_i = sign(W_i) ⟨G, sign W⟩ / n + α G_i 1[|W_i| ≤ 1].

The paper has G_i / n in the first place: of the sum ``sign(W_i) ⟨G, sign W⟩`` the one term that belongs to i itself.
Where a batch normalization follows, C does not depend on the scale of W̃, and ``⟨G, sign W⟩`` is 0: what is left is the
gradient of a network without α.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from compress_lib.ops import packing

GRADIENTS = ("exact", "paper")


def sign(x: Tensor) -> Tensor:
    """+1 where ``x ≥ 0``, both zeros included, and −1 elsewhere, NaN included; the shape and type of ``x``."""
    return _plus_minus(packing.positive(x), x.dtype)


def straight_through_sign(x: Tensor) -> Tensor:
    """`sign`, with the gradient of ``clip(x, −1, 1)``."""
    return _StraightThrough.apply(x, packing.positive(x))


def probability(x: Tensor) -> Tensor:
    """``clip((x + 1) / 2, 0, 1)``, the "hard sigmoid": with this chance of +1, ±1 has the mean ``clip(x, −1, 1)``."""
    return ((x + 1) / 2).clamp(0, 1)


def stochastic_sign(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """+1 with `probability`, else −1, independently; with the gradient of ``clip(x, −1, 1)``, its expectation.

    Parameters
    ----------
    x : Tensor
        Of any shape, float32 or float64. NaN gives −1.
    generator : torch.Generator, optional
        Of the draw, on the device of ``x``; torch's own without it.

    Returns
    -------
    Tensor
        The shape and type of ``x``.
    """
    drawn = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)  # below 1, so 1 is certain
    return _StraightThrough.apply(x, drawn < probability(x))


def scale(weight: Tensor) -> Tensor:
    """The best α of each filter, ``‖W‖₁ / n``.

    Parameters
    ----------
    weight : Tensor
        (out, …): row by row the n weights of an output.

    Returns
    -------
    Tensor
        (out,)

    Raises
    ------
    ValueError
        If the weight has no filters of one weight at least.
    """
    if weight.dim() < 2 or not weight.numel():
        raise ValueError(f"weight must have the shape (out, …) and no empty axis, got {tuple(weight.shape)}")
    return weight.abs().flatten(1).mean(1)


def scaled_sign(weight: Tensor, gradient: str = "exact") -> Tensor:
    """W̃ = α sign W, filter by filter.

    Parameters
    ----------
    weight : Tensor
        (out, …)
    gradient : {"exact", "paper"}
        Of α sign W with the straight-through estimator, or the paper's part of it, see above.

    Returns
    -------
    Tensor
        The shape of ``weight``.

    Raises
    ------
    ValueError
        If there is no such gradient; and as for `scale`.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {GRADIENTS}, got {gradient!r}")
    if gradient == "paper":
        return _PaperGradient.apply(weight)
    return along_filters(scale(weight), weight) * straight_through_sign(weight)


def along_filters(numbers: Tensor, weight: Tensor) -> Tensor:
    """One number per filter (out,), or one for all (), in a shape that multiplies ``weight`` (out, …)."""
    return numbers.reshape(-1, *[1] * (weight.dim() - 1))


def latent_weights(model: nn.Module) -> Iterator[Tensor]:
    """The real weights behind the signs: of layers, and parametrizations, that say so by ``binarizes_weight``."""
    module: Any
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            if getattr(module[0], "binarizes_weight", False):
                yield module.original
        elif getattr(module, "binarizes_weight", False) and hasattr(module, "weight"):
            yield module.weight


class Sign(nn.Module):
    """`straight_through_sign` as an activation."""

    def forward(self, x: Tensor) -> Tensor:
        return straight_through_sign(x)


def _plus_minus(positive: Tensor, dtype: torch.dtype) -> Tensor:
    return positive.to(dtype).mul_(2).sub_(1)


class _StraightThrough(torch.autograd.Function):
    """+1 where ``positive``, else −1, with the gradient that ``clip(x, −1, 1)`` has."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, positive: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _plus_minus(positive, x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.where(x.abs() <= 1, gradient, 0), None


class _PaperGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return along_filters(scale(weight), weight) * sign(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        count = weight[0].numel()
        return gradient * (1 / count + along_filters(scale(weight), weight) * (weight.abs() <= 1))
