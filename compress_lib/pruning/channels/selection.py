"""Which groups of coupled channels may lose units, how many, and which: those with the lowest scores. Chapter 03.

A unit is the least that can go (see `surgery.Group`). Filter pruning takes a fraction of each group, network slimming
one fraction of all groups together; the rest is the same.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from compress_lib import checks
from compress_lib.network import targets
from compress_lib.pruning.surgery import Coupling, Group, SurgeryReport


def check_fractions(fraction: float | Mapping[str, float]) -> None:
    """Refuse what is no number in [0, 1), or no mapping of layer names to such numbers."""
    if not isinstance(fraction, Mapping):
        checks.fraction("fraction", fraction)
        return
    for layer, value in fraction.items():
        checks.fraction(f"fraction[{layer!r}]", value)


def fraction_of(group: Group, fraction: float | Mapping[str, float]) -> float | None:
    """The fraction that holds for a group; None if a mapping names none of its layers.

    Raises
    ------
    ValueError
        If a mapping gives different fractions to layers of the group.
    """
    if not isinstance(fraction, Mapping):
        return fraction
    given = {layer: fraction[layer] for layer in group.outputs if layer in fraction}
    if len(set(given.values())) > 1:
        raise ValueError(f"fraction gives different values to layers that are pruned together: {given}")
    return next(iter(given.values()), None)


def unit_count(group: Group, fraction: float) -> int:
    """``⌊fraction · n⌋`` of the n units, but never all."""
    # The small number mends products such as 0.29 · 100 = 28.999…
    return min(math.floor(fraction * group.size + 1e-9), group.size - 1)


def counts_below_threshold(scores: Sequence[Tensor], fraction: float) -> list[int]:
    """How many of each group's units are among the lowest ``round(fraction · n)`` of all n units together.

    Parameters
    ----------
    scores : sequence of Tensor
        One vector per group, on one scale.
    fraction : float
        In [0, 1].

    Returns
    -------
    list of int
        One per group. Among equal scores the first goes first.
    """
    pooled = torch.cat(list(scores))
    below = torch.zeros_like(pooled, dtype=torch.bool)
    below[pooled.argsort(stable=True)[: round(fraction * len(pooled))]] = True
    return [int(part.sum()) for part in below.split([len(own) for own in scores])]


def removable(coupling: Coupling, exclude: Collection[str]) -> tuple[list[Group], dict[str, str]]:
    """The groups that may lose units, and the layers that may not: name to reason.

    Parameters
    ----------
    coupling : Coupling
    exclude : collection of str
        Layers whose output channels stay, and with them all that is coupled to them.

    Returns
    -------
    (list of Group, dict of str to str)

    Raises
    ------
    TypeError
        If ``exclude`` is a single string.
    ValueError
        If it names a layer that makes no channels.
    """
    if isinstance(exclude, str):
        raise TypeError(f"exclude must be a collection of layer names, got the single string {exclude!r}")
    followed = {layer for group in coupling.groups for layer in group.outputs}
    layers = [n for n, m in coupling.model.named_modules() if n in followed or isinstance(m, targets.PRUNABLE)]
    if unknown := sorted(set(exclude) - set(layers)):
        raise ValueError(f"exclude names {unknown}, which are not among the layers that make channels: {layers}")
    reason = "its channels cannot be followed (masked, transposed, or not run)"
    free, skipped = [], {layer: reason for layer in layers if layer not in followed}
    for group in coupling.groups:
        excluded = [layer for layer in group.outputs if layer in exclude]
        if group.fixed:
            skipped |= dict.fromkeys(group.outputs, group.fixed)
        elif excluded:
            skipped |= dict.fromkeys(group.outputs, f"coupled to {excluded[0]!r}, which is excluded")
            skipped |= dict.fromkeys(excluded, "excluded")
        else:
            free.append(group)
    return free, skipped


def remove_lowest(
    coupling: Coupling, chosen: Sequence[tuple[Group, Tensor, int]], skipped: Mapping[str, str], title: str
) -> tuple[nn.Module, SurgeryReport]:
    """Remove from each group the units with the lowest scores, but never the last channel of a layer.

    Parameters
    ----------
    coupling : Coupling
        Of the network to cut.
    chosen : sequence of (Group, Tensor, int)
        A group, the scores of its units, (size,), and how many units are to go. Among equal scores the first goes
        first.
    skipped, title : of the report.

    Returns
    -------
    (nn.Module, SurgeryReport)
        The report warns where fewer units go than were asked for.
    """
    removals: dict[str, Tensor] = {}
    warnings = []
    for group, scores, count in chosen:
        lowest = _lowest(group, scores, count)
        if count == group.size:
            warnings.append(f"all channels of {list(group.outputs)} are below the threshold; the largest is kept")
        elif len(lowest) < count:
            warnings.append(f"{list(group.outputs)} lose {len(lowest)} units, not {count}: each layer keeps a channel")
        removals |= group.removals(torch.tensor(lowest))
    smaller, report = coupling.remove(removals)
    report.skipped |= skipped
    report.warnings += warnings
    report.title = title
    return smaller, report


def _lowest(group: Group, scores: Tensor, count: int) -> list[int]:
    """The units with the lowest scores, without those that are the last that a layer makes."""
    left = [set(units.tolist()) for units in group.outputs.values()]
    order = scores.argsort(stable=True).tolist()
    if count == group.size:
        order.remove(int(scores.argmax()))
    chosen: list[int] = []
    for unit in order:
        if len(chosen) < count and {unit} not in left:
            chosen.append(unit)
            for units in left:
                units.discard(unit)
    return chosen
