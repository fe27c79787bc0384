"""Network slimming: channels whose batch normalisation has a small scale are removed. Chapter 03.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning efficient convolutional networks through network slimming", ICCV 2017,
arXiv 1708.06519.

Batch normalisation ends with γ·x̂ + β, x̂ of mean 0 and variance 1, so ``|γ|`` is the standard deviation of what a channel
tells the next layer. Training with the loss plus ``λ Σ|γ|`` parts the channels into those with γ ≈ 0 and the others. One
threshold on ``|γ|`` over the whole network then decides how many channels each layer keeps.

A channel with γ = 0 is not silent: it emits relu(β), a constant, and with zero padding not even the same constant's
worth everywhere, since the border sees less of it. Removing it drops that constant; it is the following training that
makes up for it.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from compress_lib.pruning import surgery

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def penalty(model: nn.Module) -> Tensor:
    """``Σ|γ|`` over all batch normalisations, to be scaled and added to the loss.

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
        If the model has no batch normalisation with scales.
    """
    return sum(scale.abs().sum() for scale in _scales(model).values())


@torch.no_grad()
def soft_threshold_(model: nn.Module, amount: float) -> None:
    """The proximal step of ``amount · Σ|γ|``, in place: every ``|γ|`` smaller by ``amount``, zero if it was not larger.

    To be called after each step of the optimiser, with the learning rate times λ; with momentum μ the optimiser's steps
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
        If ``amount`` is negative or not finite, or the model has no batch normalisation with scales.
    """
    if not 0 <= amount < float("inf"):
        raise ValueError(f"amount must be finite and at least 0, got {amount}")
    for scale in _scales(model).values():
        scale.copy_(scale.sign() * (scale.abs() - amount).clamp_min(0))


def prune(
    model: nn.Module, example_input: Tensor, fraction: float, exclude: Collection[str] = ()
) -> tuple[nn.Module, surgery.SurgeryReport]:
    """Remove the fraction of all channels that has the smallest ``|γ|``, by one threshold for the whole network.

    What is counted and ranked are the units of `surgery.groups`, channels that can only go together. Where a unit has
    several γ (the channels that a residual stage adds up), the largest ``|γ|`` counts: the unit goes only if all are small.
    Each group keeps at least its largest unit, so fewer may go than the fraction asks for.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes.
    fraction : float
        Of n units ``round(fraction · n)`` are to go, in [0, 1). Groups that cannot be cut, that have no batch
        normalisation or that are excluded do not count.
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
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be in [0, 1), got {fraction}")
    if isinstance(exclude, str):
        raise TypeError(f"exclude must be a collection of layer names, got the single string {exclude!r}")
    groups = surgery.groups(model, example_input)
    if unknown := set(exclude) - {layer for group in groups for layer in group.outputs}:
        raise ValueError(f"exclude names {sorted(unknown)}, which are not layers that make channels")
    ranked, skipped = [], {}
    for group in groups:
        score = _unit_scales(group, model)
        if group.fixed or score is None or not set(exclude).isdisjoint(group.outputs):
            reason = group.fixed or ("no batch normalisation" if score is None else "excluded")
            skipped |= dict.fromkeys(group.outputs, reason)
        else:
            ranked.append((group, score))
    if not ranked:
        raise ValueError(f"nothing to prune in this {type(model).__name__}: {skipped}")
    removals, warnings = {}, []
    for (group, score), small in zip(ranked, smallest([score for _, score in ranked], fraction)):
        if small.all():
            small[score.argmax()] = False
            warnings.append(f"all channels of {list(group.outputs)} are below the threshold; the largest is kept")
        for name, units in group.outputs.items():
            removals[name] = small[units].nonzero().flatten()
    smaller, report = surgery.remove(model, example_input, removals)
    report.skipped, report.warnings, report.title = skipped, warnings, "Network slimming"
    return smaller, report


def smallest(scores: Sequence[Tensor], fraction: float) -> list[Tensor]:
    """The smallest of all scores together, by one threshold.

    Parameters
    ----------
    scores : sequence of Tensor
        One vector per group.
    fraction : float
        In [0, 1].

    Returns
    -------
    list of Tensor
        For each vector a bool tensor, true at ``round(fraction · n)`` of the n entries of all vectors. Among equal
        scores the first goes first.
    """
    pooled = torch.cat(list(scores))
    chosen = torch.zeros_like(pooled, dtype=torch.bool)
    chosen[pooled.argsort(stable=True)[: round(fraction * len(pooled))]] = True
    return list(chosen.split([len(score) for score in scores]))


def _unit_scales(group: surgery.Group, model: nn.Module) -> Tensor | None:
    """(units,) the largest |γ| of each unit; None if some unit has none."""
    largest = torch.full((group.size,), -1.0)
    for name, units in group.scales.items():
        layer = model.get_submodule(name)
        if isinstance(layer, _NORMS) and layer.affine:
            mine = units >= 0
            largest.scatter_reduce_(0, units[mine], layer.weight.detach().abs().float().cpu()[mine], "amax")
    return None if (largest < 0).any() else largest


def _scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name to γ of the batch normalisations that have one."""
    scales = {name: layer.weight for name, layer in model.named_modules() if isinstance(layer, _NORMS) and layer.affine}
    if not scales:
        raise ValueError(f"model={type(model).__name__} has no batch normalisation with scales")
    return scales
