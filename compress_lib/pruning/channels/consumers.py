"""Choosing the channels of a layer by what its readers do with them: what data-driven methods share. Chapter 04.

A reader is a layer whose input the channels are. Its output is a sum over the units u of the channels (see
`surgery.groups`), plus what does not depend on them: ``y = Σ_u z_u + rest``, where ``z_u`` is the contribution of unit u.
What a choice of units costs depends on the contributions through sums over output positions alone,
``Σ ⟨z_u, z_v⟩`` and ``Σ ⟨z_u, y − rest⟩``; several readers stack their outputs, so their sums add up.

Methods work on a copy of full width, in which a removed unit is one that is read with weight zero, and cut it at the end.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor, nn

from compress_lib.network import patches
from compress_lib.network.patches import Moments
from compress_lib.pruning import surgery


@dataclass(frozen=True)
class Candidate:
    """A layer that may lose channels, and who reads them.

    Attributes
    ----------
    layer : str
        The layer, or the first of several whose channels go together.
    size : int
        Its units.
    outputs, readers : dict of str to Tensor
        The layers that make the channels, and those that read them, to the unit of each of their channels, −1 where it
        is not one of these.
    """

    layer: str
    size: int
    outputs: dict[str, Tensor]
    readers: dict[str, Tensor]


def candidates(
    model: nn.Module, example_input: Tensor, layers: Collection[str] | None = None
) -> tuple[list[Candidate], dict[str, str]]:
    """The layers whose channels can be judged by their readers, in the order in which the network runs.

    Parameters
    ----------
    model, example_input : as for `surgery.groups`.
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
    groups = surgery.groups(model, example_input)
    known = [layer for group in groups for layer in group.outputs]
    if unknown := sorted(set(layers or ()) - set(known)):
        raise ValueError(f"layers {unknown} are not among those that make channels: {known}")
    found, skipped = [], {}
    for group in groups:
        named = [layer for layer in group.outputs if layers is None or layer in layers]
        reason = group.fixed or _refusal(model, group) if named else "not named"
        if named and reason and layers is not None:
            raise ValueError(f"layer {named[0]!r} cannot lose channels: {reason}")
        if reason:
            skipped |= dict.fromkeys(group.outputs, reason)
        else:
            found.append(Candidate(named[0], group.size, group.outputs, group.inputs))
    return found, skipped


def plan(
    model: nn.Module, example_input: Tensor, fraction: float | Mapping[str, float]
) -> tuple[list[tuple[Candidate, int]], dict[str, str]]:
    """Which layers lose how many units.

    Parameters
    ----------
    model, example_input : as for `surgery.groups`.
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
    named = fraction if isinstance(fraction, Mapping) else {"": fraction}
    for layer, value in named.items():
        where = f"fraction[{layer!r}]" if layer else "fraction"
        if not isinstance(value, Real):
            raise TypeError(f"{where} must be a number, got {type(value).__name__}")
        if not 0 <= value < 1:
            raise ValueError(f"{where} must be in [0, 1), got {value}")
    found, skipped = candidates(model, example_input, fraction if isinstance(fraction, Mapping) else None)
    planned = []
    for candidate in found:
        given = {layer: named[layer] for layer in candidate.outputs if layer in named} or named
        if len(set(given.values())) > 1:
            raise ValueError(f"fraction gives different values to layers that are pruned together: {given}")
        part = next(iter(given.values()))
        # The small number mends products such as 0.29 · 100 = 28.999…
        count = min(math.floor(part * candidate.size + 1e-9), candidate.size - 1)
        if count:
            planned.append((candidate, count))
        else:
            skipped[candidate.layer] = f"{part} of {candidate.size} units is less than one"
    return planned, skipped


def contributions(moments: Moments, theta: Tensor, units: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The sums that a choice of units depends on.

    With ``y_o = Σ_f x_f Θ_fo`` the contribution of unit u to output o is ``z_uo = Σ_{f in u} x_f Θ_fo``. Therefore
    ``Σ ⟨z_u, z_v⟩ = Σ_{f in u, h in v} G_fh (ΘΘᵀ)_fh``, and with Θ⁰, which is Θ with zeros for all units,
    ``Σ ⟨z_u, y − rest⟩ = Σ_{f in u, o} Θ_fo (R − GΘ⁰)_fo``.

    Parameters
    ----------
    moments : of the reader, with d + 1 inputs.
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
    model: nn.Module, candidate: Candidate, images: Tensor, *, reference: nn.Module | None = None, **sampling
) -> tuple[Tensor, Tensor]:
    """The two sums of `contributions`, added up over all readers; arguments as for `patches.moments`."""
    gram, correlation = 0.0, 0.0
    for reader, channels in candidate.readers.items():
        layer = model.get_submodule(reader)
        sums = patches.moments(model, reader, images, reference=reference, **sampling)
        units = patches.per_feature(layer, channels)
        more_gram, more_correlation = contributions(sums, patches.theta(layer), units, candidate.size)
        gram, correlation = gram + more_gram, correlation + more_correlation
    return gram, correlation


@torch.no_grad()
def scale_(model: nn.Module, candidate: Candidate, scales: Tensor) -> None:
    """Multiply, in every reader, the weights of each unit by a number, (size,); zero removes it."""
    factors = torch.cat([scales, scales.new_ones(1)])  # the last for −1
    for reader, channels in candidate.readers.items():
        weight = model.get_submodule(reader).weight
        weight.mul_(factors[channels].to(weight).view(1, -1, *[1] * (weight.dim() - 2)))


def removal(candidate: Candidate, units: Tensor) -> dict[str, Tensor]:
    """The channels that make up some units, as `surgery.remove` takes them."""
    return {layer: torch.isin(own, units).nonzero().flatten() for layer, own in candidate.outputs.items()}


def _refusal(model: nn.Module, group: surgery.Group) -> str:
    if not group.inputs:
        return "no layer reads it"
    reasons = {reader: patches.refusal(model.get_submodule(reader)) for reader in group.inputs}
    return next((f"it is read by {reader!r}, {reason}" for reader, reason in reasons.items() if reason), "")
