"""The groups of channels that can only be removed together, and their removal. Chapter 03."""

import copy
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress_lib.network import targets
from compress_lib.network.op_kinds import CONVOLUTIONS
from compress_lib.network.tracing import trace
from compress_lib.pruning.surgery import removal
from compress_lib.pruning.surgery.propagation import ChannelPropagation
from compress_lib.pruning.surgery.removal import Kept, SurgeryReport
from compress_lib.pruning.surgery.symbols import ChannelSymbols

_ALL_TIED = "all its channels are tied together"


@dataclass(frozen=True)
class Group:
    """Channels of several layers that can only be removed together.

    Attributes
    ----------
    size : int
        The number of units. A unit is the least that can go: one channel of each layer, or several where an operation
        ties them (a group of a convolution, the halves of a split).
    outputs, inputs, scales : dict of str to Tensor
        Layer to the unit of each channel that it makes, reads, or gives a parameter of its own (batch normalization,
        PReLU): ``(channels,)`` int64, −1 where the channel is of another group.
    fixed : str
        Why nothing of the group can be removed; empty if units can.
    """

    size: int
    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]
    scales: dict[str, Tensor]
    fixed: str = ""

    def removals(self, units: Tensor) -> dict[str, Tensor]:
        """The channels that make up some units, (k,) int64, as `Coupling.remove` takes them."""
        return {layer: torch.isin(own, units).nonzero().flatten() for layer, own in self.outputs.items()}


class Coupling:
    """Which channels of a network are coupled, and the removal of some of them.

    Parameters
    ----------
    model : nn.Module
        Left as it is. It is followed as it runs in evaluation mode; layers that run in training mode only (auxiliary
        classifiers) are followed as well.
    example_input : Tensor
        A batch that the model takes. Its shape counts, and for `Coupling.remove` its numbers too, if they are integers.

    Attributes
    ----------
    model : nn.Module
        The one that was given, not a copy. Its weights may change before `Coupling.remove` cuts it; the shapes of
        its layers and their connections may not.
    groups : list of Group
        In the order in which the layers make the channels.

    Raises
    ------
    TypeError
        If ``model`` is not a module or ``example_input`` not a tensor.
    ValueError
        If ``torch.fx`` cannot trace the model, or ``example_input`` does not fit it.
    """

    def __init__(self, model: nn.Module, example_input: Tensor) -> None:
        self.model, self.example_input = model, example_input
        self.groups = _groups(_symbols(model, example_input))

    def remove(self, removals: Mapping[str, Iterable[int]]) -> tuple[nn.Module, SurgeryReport]:
        """Remove channels, and all that is coupled to them.

        Parameters
        ----------
        removals : mapping of str to iterable of int
            Layer name to the indices of the output channels (features) to remove.

        Returns
        -------
        model : nn.Module
            A smaller network of the same class, with ordinary dense layers.
        report : SurgeryReport
            What shrank, and which channels are left.

        Raises
        ------
        TypeError
            If ``removals`` is no mapping, or what it maps to no whole numbers.
        ValueError
            If a layer does not exist or cannot be cut (with the reason), indices are out of range or repeated, or a
            layer would be left without channels; if the network does not run without these channels, or is random in
            evaluation mode.
        RuntimeError
            If the smaller network breaks the invariant of `removal`.
        """
        kept = self._kept(self._removed_units(removals))
        return removal.cut_out(self.model, self.example_input, kept, f"channels of {list(removals)}")

    def _removed_units(self, removals: Mapping[str, Iterable[int]]) -> list[set[int]]:
        """The units to remove of each group, after all checks of what the caller asked for."""
        removed: list[set[int]] = [set() for _ in self.groups]
        owners = {layer: number for number, group in enumerate(self.groups) for layer in group.outputs}
        if not isinstance(removals, Mapping):
            raise TypeError(f"removals must map layer names to indices of channels, got {type(removals).__name__}")
        for layer, indices in removals.items():
            if layer not in owners:
                raise ValueError(f"removals: no layer {layer!r} that makes channels; the model has {list(owners)}")
            group = self.groups[owners[layer]]
            channels = group.outputs[layer]
            units = channels[_indices(layer, indices, len(channels))].tolist()
            if units and group.fixed:
                raise ValueError(f"removals: layer {layer!r} cannot lose channels: {group.fixed}")
            removed[owners[layer]] |= set(units)
        return removed

    def _kept(self, removed: list[set[int]]) -> Kept:
        """The channels that stay in the layers that lose some."""
        kept = Kept()
        for side in ("outputs", "inputs", "scales"):
            stays: dict[str, Tensor] = {}
            for group, units in zip(self.groups, removed, strict=True):
                for layer, own in getattr(group, side).items() if units else ():
                    mine = ~torch.isin(own, torch.tensor(sorted(units)))
                    stays[layer] = stays[layer] & mine if layer in stays else mine
            if empty := [layer for layer, channels in stays.items() if not channels.any()]:
                raise ValueError(f"removals would leave layer {empty[0]!r} without {side}; keep at least one")
            getattr(kept, side).update((layer, channels.nonzero().flatten()) for layer, channels in stays.items())
        return kept


def _symbols(model: nn.Module, example_input: Tensor) -> ChannelSymbols:
    """What propagation finds, in evaluation mode and, if layers were not reached, in training mode."""
    if not isinstance(example_input, Tensor):
        raise TypeError(f"example_input must be a tensor, got {type(example_input).__name__}")
    if not example_input.numel():
        raise ValueError(f"example_input must not be empty, got shape {tuple(example_input.shape)}")
    symbols, graph = ChannelSymbols(), trace(model)
    shared = targets.sharing(model)
    ChannelPropagation(graph, symbols, shared).propagate(example_input)
    reached = symbols.outputs.keys()
    if any(isinstance(m, (nn.Linear, *CONVOLUTIONS)) and n not in reached for n, m in model.named_modules()):
        ChannelPropagation(trace(model, training=True), symbols, shared).propagate(example_input)
    return symbols


def _groups(symbols: ChannelSymbols) -> list[Group]:
    by_group = copy.deepcopy(symbols)
    for made in symbols.outputs.values():
        by_group.couple(made.view(-1, 1), where="")  # the channels that one layer makes are of one group
    reasons = symbols.reasons()
    members: dict[int, list[int]] = {}  # group → its units, by the symbol that stands for each
    places: dict[int, tuple[int, int]] = {}  # unit → number of the group, number of the unit in it
    for made in symbols.outputs.values():
        for unit in _roots(symbols, made):
            units = members.setdefault(by_group.root(unit), [])
            if unit not in places:
                places[unit] = (list(members).index(by_group.root(unit)), len(units))
                units.append(unit)
    found = []
    for units in members.values():
        why = next((reasons[unit] for unit in units if unit in reasons), "" if len(units) > 1 else _ALL_TIED)
        found.append(Group(len(units), {}, {}, {}, why))
    for side in ("outputs", "inputs", "scales"):
        for layer, channels in getattr(symbols, side).items():
            group, unit = torch.tensor([places.get(root, (-1, -1)) for root in _roots(symbols, channels)]).T
            for number in group[group >= 0].unique().tolist():
                getattr(found[number], side)[layer] = torch.where(group == number, unit, -1)
    return found


def _roots(symbols: ChannelSymbols, channels: Tensor) -> list[int]:
    return [symbols.root(symbol) for symbol in channels.tolist()]


def _indices(layer: str, indices: Iterable[int], channels: int) -> Tensor:
    """The indices as a tensor, after all checks."""
    given: Any = indices
    try:
        given = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        numbers = [operator.index(i) for i in given if not isinstance(i, bool)]
    except TypeError:
        numbers = None
    if numbers is None or len(numbers) < len(given):
        raise TypeError(f"removals[{layer!r}] must be whole numbers, the indices of channels, got {given!r}")
    if numbers and not 0 <= min(numbers) <= max(numbers) < channels:
        raise ValueError(f"removals[{layer!r}]: the layer has channels 0 to {channels - 1}, got {numbers}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"removals[{layer!r}]: channels are repeated: {numbers}")
    return torch.tensor(numbers, dtype=torch.long)
