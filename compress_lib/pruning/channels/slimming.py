"""Network slimming: channels whose batch normalization has a small scale are removed. Chapter 03.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning efficient convolutional networks through network slimming", ICCV 2017,
arXiv 1708.06519.

Batch normalization ends with γ·x̂ + β, x̂ of mean 0 and variance 1, so ``|γ|`` is the standard deviation of what a
channel passes to the next layer. Training with the loss plus ``λ Σ|γ|`` separates the channels with γ ≈ 0 from the
others. One threshold on ``|γ|`` over the whole network then decides how many channels each layer keeps.

A channel with γ = 0 still emits relu(β), a constant, whose effect on the next layer is smaller at the border if that
layer pads with zeros. Removing the channel drops the constant; the training that follows makes up for it.
"""

import operator
from collections.abc import Collection
from functools import reduce

import torch
from torch import Tensor, nn

from compress_lib import checks
from compress_lib.pruning.channels import selection
from compress_lib.pruning.surgery import Coupling, Group, SurgeryReport

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def penalty(model: nn.Module) -> Tensor:
    """``Σ|γ|`` over all batch normalizations, to be scaled and added to the loss.

    Its gradient ±λ does not fade near zero, but its steps jump across it: no γ becomes exactly zero.
    `soft_threshold_` does that.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    Tensor
        Scalar, differentiable.

    Raises
    ------
    ValueError
        If the model has no batch normalization with scales.
    """
    return reduce(operator.add, (scale.abs().sum() for scale in _scales(model).values()))


@torch.no_grad()
def soft_threshold_(model: nn.Module, amount: float) -> None:
    """The proximal step of ``amount · Σ|γ|``, in place: every ``|γ|`` smaller by ``amount``, zero if it was not larger.

    To be called after each step of the optimizer, with the learning rate times λ; with momentum μ the optimizer's steps
    are 1/(1 − μ) times as long, and so is this one::

        fit(…, after_step=lambda model, lr: soft_threshold_(model, lr * strength))

    Parameters
    ----------
    model : nn.Module
    amount : float
        At least 0.

    Raises
    ------
    ValueError
        If ``amount`` is negative or not finite, or the model has no batch normalization with scales.
    """
    checks.non_negative("amount", amount)
    for scale in _scales(model).values():
        scale.copy_(scale.sign() * (scale.abs() - amount).clamp_min(0))


def prune(
    model: nn.Module, example_input: Tensor, fraction: float, exclude: Collection[str] = ()
) -> tuple[nn.Module, SurgeryReport]:
    """Remove the fraction of all channels that has the smallest ``|γ|``, by one threshold for the whole network.

    What is counted and ranked are units (see `surgery.Group`), channels that can only go together. Where a unit has
    several γ (the channels that a residual stage adds up), the largest ``|γ|`` counts: the unit goes only if all are
    small. Each group keeps at least its largest unit, so fewer may go than the fraction asks for.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes.
    fraction : float
        Of n units ``round(fraction · n)`` are to go, in [0, 1). Groups that cannot be cut, that have no batch
        normalization or that are excluded do not count.
    exclude : collection of str
        Layers whose output channels stay, and with them what is coupled to them.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The smaller network, and what shrank.

    Raises
    ------
    TypeError, ValueError
        For a fraction outside [0, 1), an unknown layer in ``exclude``, or nothing to prune.
    """
    checks.fraction("fraction", fraction)
    coupling = Coupling(model, example_input)
    free, skipped = selection.removable(coupling, exclude)
    ranked = []
    for group in free:
        if (scales := _unit_scales(group, model)) is None:
            skipped |= dict.fromkeys(group.outputs, "no batch normalization")
        else:
            ranked.append((group, scales))
    if not ranked:
        raise ValueError(f"nothing to prune in this {type(model).__name__}: {skipped}")
    counts = selection.counts_below_threshold([scales for _, scales in ranked], fraction)
    chosen = [(group, scales, count) for (group, scales), count in zip(ranked, counts, strict=True)]
    return selection.remove_lowest(coupling, chosen, skipped, "Network slimming")


def _unit_scales(group: Group, model: nn.Module) -> Tensor | None:
    """(units,) the largest |γ| of each unit; None if some unit has none."""
    largest = torch.full((group.size,), -1.0)
    for name, units in group.scales.items():
        layer = model.get_submodule(name)
        if isinstance(layer, _NORMS) and layer.affine:
            mine = units >= 0
            largest.scatter_reduce_(0, units[mine], layer.weight.detach().abs().float().cpu()[mine], "amax")
    return None if (largest < 0).any() else largest


def _scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name to γ of the batch normalizations that have one."""
    scales = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, _NORMS) and layer.affine}
    if not scales:
        raise ValueError(f"model={type(model).__name__} has no batch normalization with scales")
    return scales
