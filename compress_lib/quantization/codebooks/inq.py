"""Incremental network quantization (INQ): weights become powers of two part by part, and the rest train on. Chapter 06.

Zhou, Yao, Guo, Xu, Chen, "Incremental network quantization: towards lossless CNNs with low-precision weights", ICLR
2017, arXiv 1702.03044. With b bits a layer's levels are 0 and ``±2^n`` for n from n2 to n1: with s the largest ``|w|``,

    n1 = ⌊log₂(4s/3)⌋,        n2 = n1 + 1 − 2^(b−1)/2,

2^(b−2) magnitudes. For adjacent levels α < β, w goes to ``β·sgn(w)`` where ``(α + β)/2 ≤ |w| < 3β/2``. As ``3β/2`` is
the middle of β and 2β, that is the nearest level, in a tie the one farther from zero; and n1 is the exponent to which s
itself goes. The 2^(b−1) + 1 levels need b bits: the paper spends one of them on zero.

A product with 2^n is a shift. Training takes turns with `freeze`, which freezes a larger part of every layer's
weights::

    for portion in SCHEDULES["5 bits"]:
        model, report = freeze(model, 5, portion)
        training.fit(model, images, labels, epochs=1, seed=0)
    model = deploy(model)
"""

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib.network import targets
from compress_lib.network.parametrized import bake_
from compress_lib.report import LayerRow, Report

# The part of the weights that is frozen after each step, as the paper has it for VGG-16 and the ResNets ("5 bits"), for
# AlexNet and GoogLeNet at 5 bits, and for ResNet-18 at 4 to 2. The fewer the bits, the more steps it took, and networks
# differ at the same bits: 50/75/87.5/100 % is no rule.
SCHEDULES = {
    "5 bits": (0.5, 0.75, 0.875, 1.0),
    "5 bits, AlexNet": (0.3, 0.6, 0.8, 1.0),
    "5 bits, GoogLeNet": (0.2, 0.4, 0.6, 0.8, 1.0),
    "4 bits": (0.3, 0.5, 0.8, 0.9, 0.95, 1.0),
    "3 bits": (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    "2 bits": (0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0),
}


def exponents(weights: Tensor, bits: int) -> tuple[int, int]:
    """The exponents n1 and n2 of the largest and the smallest level.

    Parameters
    ----------
    weights : Tensor
        Floating-point, finite, not all zero.
    bits : int
        From 2 to 8.

    Returns
    -------
    (int, int)

    Raises
    ------
    TypeError, ValueError
        For other weights or bits, or if the type of the weights cannot hold the smallest level.
    """
    if not weights.is_floating_point():
        raise TypeError(f"weights must be a floating-point tensor, got {weights.dtype}")
    if not isinstance(bits, Integral) or isinstance(bits, bool):
        raise TypeError(f"bits must be an integer, got {type(bits).__name__}")
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, got {bits}")
    largest = weights.detach().abs().max().item() if weights.numel() else 0.0
    if not 0 < largest < math.inf:
        raise ValueError(f"weights must be finite and not all zero, got a largest magnitude of {largest}")
    mantissa, exponent = math.frexp(largest)  # of s in [½, 1)·2^e: exact, where a logarithm rounds
    n1 = exponent if mantissa >= 0.75 else exponent - 1
    n2 = n1 + 1 - 2 ** (bits - 2)
    if 2.0**n2 < torch.finfo(weights.dtype).smallest_normal:
        raise ValueError(f"weights of {weights.dtype} cannot hold the smallest level, 2^{n2}")
    return n1, n2


def levels(weights: Tensor, bits: int) -> Tensor:
    """The ``2^(bits−1) + 1`` levels of these weights, ascending, in their type; `exponents` says what is refused."""
    n1, n2 = exponents(weights, bits)
    magnitudes = torch.tensor([2.0**n for n in range(n2, n1 + 1)], dtype=torch.float64)
    both = torch.cat([-magnitudes.flip(0), magnitudes.new_zeros(1), magnitudes])
    return both.to(weights.device, weights.dtype)


def to_levels(weights: Tensor, n1: int, n2: int) -> Tensor:
    """Every weight at its nearest level, the one farther from zero in a tie. The weights' shape and type.

    What is above ``3/2·2^n1``, which training can bring about after the levels were fixed, goes to ``2^n1``.
    """
    mantissa, exponent = torch.frexp(weights.detach().double())
    nearest = exponent - (mantissa.abs() < 0.75).int()
    magnitude = torch.ldexp(torch.ones_like(mantissa), nearest.clamp(n2, n1))
    magnitude[weights.detach().abs().double() < 2.0 ** (n2 - 1)] = 0
    return (magnitude * weights.detach().sign().double()).to(weights.dtype)


class FrozenWeights(nn.Module):
    """A parametrization of ``weight``: some weights are at their levels for good, the others are trained.

    The levels are selected, not added: a frozen weight has no gradient, and whatever momentum and weight decay do to
    its hidden original, its value stays the level to the last bit.

    Parameters
    ----------
    frozen : Tensor
        Of the weight's shape, bool.
    values : Tensor
        Of the weight's shape: the levels of the frozen weights.
    bits, n1, n2 : int
        Of the layer, fixed by the first step.
    pruned : int
        How many weights were zero before the first step. They are frozen and count for no portion.
    """

    frozen: Tensor
    values: Tensor

    def __init__(self, frozen: Tensor, values: Tensor, bits: int, n1: int, n2: int, pruned: int) -> None:
        super().__init__()
        self.bits, self.n1, self.n2, self.pruned = bits, n1, n2, pruned
        self.register_buffer("frozen", frozen)
        self.register_buffer("values", values)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.frozen, self.values, weight)


@dataclass
class IncrementalLayer(LayerRow):
    """One layer. ``kept`` counts the weights that are not zero, ``frozen`` those at a level for good.

    ``rmse`` is the root mean square change of the weights that this step froze, 0 if there are none.
    """

    sparsity: float
    frozen: int
    bits: int
    n1: int
    n2: int
    rmse: float


def freeze(
    model: nn.Module, bits: int | Mapping[str, int], portion: float, *, order: str = "largest", seed: int = 0
) -> tuple[nn.Module, Report]:
    """Freeze weights of every linear and convolution layer until a portion of them is at levels.

    The first step fixes a layer's levels; from then on n1 and n2 stay. Weights that are zero before it, masked or baked
    in, stay zero for good.

    Parameters
    ----------
    model : nn.Module
        Plain, masked, or what an earlier step returned; left as it is.
    bits : int or mapping of str to int
        From 2 to 8; a mapping names layers and leaves the others alone.
    portion : float
        In (0, 1], of each layer's weights, those of earlier steps included: ``round(portion · n)`` of n.
    order : {"largest", "random"}
        Which of the remaining weights are frozen: those of the largest magnitude, as the paper has it (the first of
        equals first), or a random draw, its control.
    seed : int
        Of the random draw.

    Returns
    -------
    (nn.Module, Report)
        A copy to train on, and one `IncrementalLayer` per quantized layer.

    Raises
    ------
    TypeError, ValueError
        For what `exponents` refuses, with the layer's name; for other arguments than these; if an earlier step had
        other bits, or had frozen more.
    """
    if not isinstance(portion, Real):
        raise TypeError(f"portion must be a number, got {type(portion).__name__}")
    if not 0 < portion <= 1:
        raise ValueError(f"portion must be in (0, 1], got {portion}")
    if order not in ("largest", "random"):
        raise ValueError(f"order must be 'largest' or 'random', got {order!r}")
    layers = targets.prunable(model)
    wanted = bits if isinstance(bits, Mapping) else dict.fromkeys(layers, bits)
    if unknown := sorted(wanted.keys() - layers.keys()):
        raise ValueError(f"bits names {unknown}, which are not among the layers that can be quantized: {list(layers)}")
    present = {name: found for name, layer in layers.items() if (found := _frozen(layer)) is not None}
    if dropped := sorted(present.keys() - wanted.keys()):
        raise ValueError(f"bits leaves out {dropped}, of which earlier steps froze a part")
    skipped = {name: reason.replace("pruned", "quantized") for name, reason in targets.skipped(model).items()}
    quantized = _plain(model, wanted)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for name in layers:
        layer = quantized.get_submodule(name)
        full_name = f"{name}.weight" if name else "weight"
        if name not in wanted:
            skipped[full_name] = "no bits given"
            continue
        weight = layer.weight.detach()
        if name not in present and not weight.any():
            skipped[full_name] = "all its weights are zero"
            continue
        try:
            state = _next(weight, present.get(name), wanted[name], portion, order, generator)
        except (TypeError, ValueError) as error:
            raise type(error)(f"layer {name!r}: {error}") from None
        new = state.frozen if name not in present else state.frozen & ~present[name].frozen
        rmse = (state.values - weight)[new].double().square().mean().sqrt().item() if new.any() else 0.0
        kind = type(layer).__name__
        parametrize.register_parametrization(layer, "weight", state)
        kept, total, frozen = int(layer.weight.count_nonzero()), weight.numel(), int(state.frozen.sum())
        n1, n2 = state.n1, state.n2
        rows.append(IncrementalLayer(name, kind, total, kept, 1 - kept / total, frozen, wanted[name], n1, n2, rmse))
    return quantized, Report(rows, skipped, title=f"Incremental quantization, {portion:.1%} frozen")


def quantize(model: nn.Module, bits: int | Mapping[str, int]) -> tuple[nn.Module, Report]:
    """All weights at their levels at once, with no training in between: a plain copy, and the report of `freeze`."""
    quantized, report = freeze(model, bits, 1)
    report.title = "Quantization to powers of two"
    return deploy(quantized), report


def deploy(model: nn.Module) -> nn.Module:
    """A plain copy whose quantized weights are zero or exact powers of two.

    Raises
    ------
    ValueError
        If some weights of a quantized layer are not frozen yet.
    """
    states = {name: state for name, layer in model.named_modules() if (state := _frozen(layer)) is not None}
    if unfinished := [name for name, state in states.items() if not state.frozen.all()]:
        raise ValueError(f"the layers {unfinished} have weights that are not frozen; freeze the portion 1 first")
    return _plain(model, states)


def _frozen(layer: Any) -> FrozenWeights | None:
    """What the steps so far froze of a layer, if there were any."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    return next((p for p in layer.parametrizations.weight if isinstance(p, FrozenWeights)), None)


def _plain(model: nn.Module, names: Iterable[str]) -> nn.Module:
    """A copy with the parametrized weights of these layers baked in."""
    plain = copy.deepcopy(model)
    for name in names:
        if parametrize.is_parametrized(layer := plain.get_submodule(name), "weight"):
            bake_(layer)
    return plain


def _next(
    weight: Tensor, before: FrozenWeights | None, bits: int, portion: float, order: str, generator: torch.Generator
) -> FrozenWeights:
    """The state of a layer after a step; ``weight`` is what the layer computes with before it."""
    zero = weight == 0
    if before is None:
        n1, n2 = exponents(weight, bits)
        frozen, pruned = zero, int(zero.sum())
    elif before.bits != bits:
        raise ValueError(f"bits must stay {before.bits}, as in the steps before, got {bits}")
    else:
        n1, n2, pruned = before.n1, before.n2, before.pruned
        frozen = before.frozen | zero  # a mask put on between the steps
    if not weight.isfinite().all():
        raise ValueError("weights must be finite, got NaN or infinite ones")
    target = pruned + round(portion * (weight.numel() - pruned))
    if before is not None and target < before.frozen.sum():
        share = (int(before.frozen.sum()) - pruned) / (weight.numel() - pruned)
        raise ValueError(f"portion must be at least the {share:.4g} of the steps before, got {portion}")
    count = max(target - int(frozen.sum()), 0)
    free = (~frozen).flatten().nonzero().flatten()
    if order == "largest":
        ranked = weight.flatten()[free].abs().argsort(descending=True, stable=True)
    else:
        ranked = torch.randperm(len(free), generator=generator).to(weight.device)
    frozen = frozen.clone().flatten()
    frozen[free[ranked[:count]]] = True
    frozen = frozen.view_as(weight)
    return FrozenWeights(frozen, torch.where(frozen, to_levels(weight, n1, n2), 0), bits, n1, n2, pruned)
