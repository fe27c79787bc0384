"""Ternary weight networks (TWN): weights of −α, 0 and α. Chapter 08.

Li, Zhang, Liu, "Ternary weight networks", arXiv 1605.04711 (2016). Weights up to a threshold Δ in magnitude become 0,
the others α sign W with the mean α of their magnitudes, which is best for the Δ given::

    ‖W − αT‖² = ‖W‖² − (Σ_{|W_i| > Δ} |W_i|)² / #{i: |W_i| > Δ}.

For magnitudes of the density p, the fraction to be made largest is M(Δ)² / P(Δ) with ``M = ∫_Δ x p(x) dx`` and
``P = ∫_Δ p(x) dx``. Its derivative, ``p M (M − 2ΔP) / P²``, vanishes where the mean beyond the threshold, M/P = α, is
twice the threshold: weights go to the nearer one of 0 and α. With E the mean of all magnitudes,

- uniform on [0, a]: α = (a + Δ) / 2, so Δ = a / 3, and E = a / 2: Δ/E = 2/3;
- Gaussian: α = φ(t) / (1 − Φ(t)) with t = Δ/σ, which is 2t at t = 0.612, and E = √(2/π) σ: Δ/E = 0.767;
- Laplace with the mean b: α = Δ + b, so Δ = b = E: Δ/E = 1.

The paper takes Δ = 0.7 E for all. The gradient with respect to the ternary weight goes straight to the real one::

    model = convert(model)
    training.fit(model, images, labels, epochs=4, seed=0)
    deployed = packed_weight.pack(model)
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib.binary.binarization import along_filters
from compress_lib.network import parametrized

RATIO = 0.7
DISTRIBUTIONS = ("uniform", "gaussian", "laplace")


def optimal_ratio(distribution: str) -> float:
    """The best threshold in units of the mean magnitude, Δ/E, for weights of a distribution around 0.

    Parameters
    ----------
    distribution : {"uniform", "gaussian", "laplace"}

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the distribution is another one.
    """
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution must be one of {DISTRIBUTIONS}, got {distribution!r}")
    if distribution == "uniform":
        return 2 / 3
    if distribution == "laplace":
        return 1.0
    low, high = 0.0, 2.0  # the mean beyond t, less 2t, falls from √(2/π) to below 0
    for _ in range(60):
        t = (low + high) / 2
        beyond = math.exp(-t * t / 2) / (math.sqrt(math.pi / 2) * math.erfc(t / math.sqrt(2)))
        low, high = (t, high) if beyond > 2 * t else (low, t)
    return low / math.sqrt(2 / math.pi)


def optimal_threshold(weight: Tensor) -> float:
    """The Δ with the least ``‖W − αT‖²`` of all weights together, found by trying each: the largest to become 0.

    Raises
    ------
    ValueError
        If there are no weights, or one is NaN or infinite.
    """
    magnitude = weight.detach().abs().flatten().double().sort(descending=True).values
    if not len(magnitude) or not magnitude.isfinite().all():
        raise ValueError("weight must have finite elements, one at least")
    explained = magnitude.cumsum(0).square() / torch.arange(1, len(magnitude) + 1, dtype=torch.float64)
    # Among equals the fraction is convex in how many of them are kept, so that all are or none.
    kept = int(explained.argmax()) + 1
    return magnitude[kept].item() if kept < len(magnitude) else 0.0


def approximate(weight: Tensor, *, per_filter: bool = False, ratio: float = RATIO) -> tuple[Tensor, Tensor]:
    """Which weights are kept, and the scale.

    Parameters
    ----------
    weight : Tensor
        (out, …)
    per_filter : bool
        A threshold and a scale for each filter, not one for all.
    ratio : float
        Δ in units of the mean magnitude.

    Returns
    -------
    (Tensor, Tensor)
        Bool of the shape of ``weight``, ``|W_i| > Δ``; and α, (out,) or (); 0 where nothing is kept.
    """
    magnitude = weight.detach().abs().reshape(len(weight) if per_filter else 1, -1)
    kept = magnitude > ratio * magnitude.mean(1, keepdim=True)
    alpha = torch.where(kept, magnitude, 0).sum(1) / kept.sum(1).clamp(min=1)
    return kept.reshape(weight.shape), alpha if per_filter else alpha.squeeze(0)


class Ternary(nn.Module):
    """A parametrization of ``weight``: α, 0 or −α, with gradients that go straight through; see `ternary`."""

    def __init__(self, per_filter: bool = False) -> None:
        super().__init__()
        self.per_filter = per_filter

    def forward(self, weight: Tensor) -> Tensor:
        return _StraightThrough.apply(weight, self.per_filter)

    def parts(self, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Signs, what is not zero, and the scale; see `packed_weight.pack`."""
        return weight, *approximate(weight, per_filter=self.per_filter)


def convert(model: nn.Module, layers: Iterable[str] | None = None, *, per_filter: bool = False) -> nn.Module:
    """The train form.

    Parameters
    ----------
    model, layers : as for `binaryconnect.convert`.
    per_filter : bool
        A threshold and a scale for each filter, not one for a layer.

    Returns
    -------
    nn.Module
        A copy whose layers compute with ternary weights.

    Raises
    ------
    TypeError, ValueError
        As for `parametrized.parametrize_weights`.
    """
    return parametrized.parametrize_weights(model, layers, lambda: Ternary(per_filter))


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, per_filter: bool) -> Tensor:
        kept, alpha = approximate(weight, per_filter=per_filter)
        return along_filters(alpha, weight) * torch.where(kept, weight.sign(), 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
