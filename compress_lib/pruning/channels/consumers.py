"""Choosing the channels of a layer by what its consumers do with them: what data-driven methods share. Chapter 04.

A consumer is a layer whose input the channels are. Its output is a sum over the units u of the channels (see
`surgery.Group`), plus what does not depend on them: ``y = Σ_u z_u + rest``, where ``z_u`` is the contribution of unit
u. What a choice of units costs depends on the contributions through sums over output positions alone,
``Σ ⟨z_u, z_v⟩`` and ``Σ ⟨z_u, y − rest⟩``; several consumers stack their outputs, so their sums add up.

Methods work on a copy of full width, in which a removed unit is one that is read with weight zero, and cut it at the
end: `prune_one_by_one` is the loop that they share.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from compress_lib.network import patches
from compress_lib.network.patches import Moments
from compress_lib.pruning.channels import selection
from compress_lib.pruning.surgery import Coupling, Group, SurgeryReport

Given = TypeVar("Given")


@dataclass(frozen=True)
class Candidate:
    """A layer that may lose channels, and what is coupled to them.

    Attributes
    ----------
    layer : str
        The layer, or the first of several whose channels go together.
    group : Group
        Its channels, the layers that make them, and those that read them.
    """

    layer: str
    group: Group

    @property
    def size(self) -> int:
        """The number of units."""
        return self.group.size

    @property
    def consumers(self) -> dict[str, Tensor]:
        """The layers that read the channels, to the unit of each of their channels, −1 where it is none of these."""
        return self.group.inputs


def candidates(coupling: Coupling, layers: Collection[str] | None = None) -> tuple[list[Candidate], dict[str, str]]:
    """The layers whose channels can be judged by their consumers, in the order in which the network runs.

    Parameters
    ----------
    coupling : Coupling
        Of the network.
    layers : collection of str, optional
        All that can be judged unless given.

    Returns
    -------
    candidates : list of Candidate
    skipped : dict of str to str
        The other layers that make channels: name to reason.

    Raises
    ------
    TypeError, ValueError
        If ``layers`` is a single string, or names a layer that does not exist or cannot be judged: its channels cannot
        be removed, or a layer that reads them is not linear on patches (a grouped convolution).
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be a collection of layer names, got the single string {layers!r}")
    known = [layer for group in coupling.groups for layer in group.outputs]
    if unknown := sorted(set(layers or ()) - set(known)):
        raise ValueError(f"layers {unknown} are not among those that make channels: {known}")
    found = []
    skipped: dict[str, str] = {}
    for group in coupling.groups:
        named = [layer for layer in group.outputs if layers is None or layer in layers]
        reason = group.fixed or _refusal(coupling.model, group) if named else "not named"
        if named and reason and layers is not None:
            raise ValueError(f"layer {named[0]!r} cannot lose channels: {reason}")
        if reason:
            skipped |= dict.fromkeys(group.outputs, reason)
        else:
            found.append(Candidate(named[0], group))
    return found, skipped


def plan(
    coupling: Coupling, fraction: float | Mapping[str, float]
) -> tuple[list[tuple[Candidate, int]], dict[str, str]]:
    """Which layers lose how many units.

    Parameters
    ----------
    coupling : Coupling
        Of the network.
    fraction : float or mapping of str to float
        In [0, 1): of n units ``⌊fraction · n⌋`` go, never all. A mapping names layers; the others are left alone.

    Returns
    -------
    plan : list of (Candidate, int)
        With the number of units to remove, at least 1, in the order in which the network runs.
    skipped : dict of str to str
        The other layers that make channels: name to reason.

    Raises
    ------
    TypeError, ValueError
        For a fraction that is no number or out of range, and for what `candidates` refuses.
    """
    selection.check_fractions(fraction)
    found, skipped = candidates(coupling, fraction if isinstance(fraction, Mapping) else None)
    planned = []
    for candidate in found:
        part = selection.fraction_of(candidate.group, fraction)
        assert part is not None, "a candidate has a layer that the mapping names"
        if count := selection.unit_count(candidate.group, part):
            planned.append((candidate, count))
        else:
            skipped[candidate.layer] = f"{part} of {candidate.size} units is less than one"
    return planned, skipped


def prune_one_by_one(
    coupling: Coupling,
    steps: Iterable[tuple[Candidate, Given]],
    choose_: Callable[[nn.Module, Candidate, Given], Tensor],
    skipped: Mapping[str, str],
    title: str,
) -> tuple[nn.Module, SurgeryReport]:
    """Choose units of one layer after the other, in the order in which the network runs, and cut them all at the end.

    Parameters
    ----------
    coupling : Coupling
        Of a copy of the network, whose weights change in place.
    steps : iterable of (Candidate, anything)
        The layers, each with what the method wants to know of it: how many units are to go, for example (`plan`).
    choose_ : callable
        ``(model, candidate, given) -> units``: the units to remove, (k,) int64. It may change weights of the model, in
        place; the next layers are chosen on what it leaves.
    skipped, title : of the report.

    Returns
    -------
    (nn.Module, SurgeryReport)
        For what `Coupling.remove` returns.
    """
    removals: dict[str, Tensor] = {}
    for candidate, given in steps:
        removals |= candidate.group.removals(choose_(coupling.model, candidate, given))
    smaller, report = coupling.remove(removals)
    report.title = title
    report.skipped |= skipped
    return smaller, report


def contributions(moments: Moments, theta: Tensor, units: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The sums that a choice of units depends on.

    With ``y_o = Σ_f x_f Θ_fo`` the contribution of unit u to output o is ``z_uo = Σ_{f in u} x_f Θ_fo``. Therefore
    ``Σ ⟨z_u, z_v⟩ = Σ_{f in u, h in v} G_fh (ΘΘᵀ)_fh``, and with Θ⁰, which is Θ with zeros for all units,
    ``Σ ⟨z_u, y − rest⟩ = Σ_{f in u, o} Θ_fo (R − GΘ⁰)_fo``.

    Parameters
    ----------
    moments : of the consumer, with d + 1 inputs.
    theta : Tensor
        (d + 1, outputs), its weights.
    units : Tensor
        (d,) the unit of each input, −1 for none.
    size : int
        The number of units.

    Returns
    -------
    gram : Tensor
        (size, size) ``Σ ⟨z_u, z_v⟩``.
    correlation : Tensor
        (size,) ``Σ ⟨z_u, y − rest⟩``.
    """
    units = torch.cat([units, units.new_tensor([-1])])  # the constant input belongs to no unit
    member = (units[:, None] == torch.arange(size)).to(theta)  # (d + 1, size)
    rest = theta * (units == -1)[:, None]
    gram = member.T @ (moments.gram * (theta @ theta.T)) @ member
    correlation = member.T @ (theta * (moments.cross - moments.gram @ rest)).sum(1)
    return gram, correlation


def measure(
    model: nn.Module, candidate: Candidate, images: Tensor, *, reference: nn.Module | None = None, **sampling: Any
) -> tuple[Tensor, Tensor]:
    """The two sums of `contributions`, added up over all consumers; arguments as for `patches.moments`."""
    gram = torch.zeros(candidate.size, candidate.size, dtype=torch.float64)
    correlation = torch.zeros(candidate.size, dtype=torch.float64)
    for consumer, channels in candidate.consumers.items():
        layer = patches.get_layer(model, consumer)
        sums = patches.moments(model, consumer, images, reference=reference, **sampling)
        units = patches.per_feature(layer, channels)
        more_gram, more_correlation = contributions(sums, patches.theta(layer), units, candidate.size)
        gram, correlation = gram + more_gram, correlation + more_correlation
    return gram, correlation


@torch.no_grad()
def scale_(model: nn.Module, candidate: Candidate, scales: Tensor) -> None:
    """Multiply, in every consumer, the weights of each unit by a number, (size,); zero removes it."""
    factors = torch.cat([scales, scales.new_ones(1)])  # the last for −1
    for consumer, channels in candidate.consumers.items():
        weight = model.get_parameter(f"{consumer}.weight")
        weight.mul_(factors[channels].to(weight).view(1, -1, *[1] * (weight.dim() - 2)))


def _refusal(model: nn.Module, group: Group) -> str:
    if not group.inputs:
        return "no layer reads it"
    reasons = {consumer: patches.refusal(model.get_submodule(consumer)) for consumer in group.inputs}
    return next((f"it is read by {consumer!r}, {reason}" for consumer, reason in reasons.items() if reason), "")
