"""Removing channels from a network: what is left is an ordinary, smaller, dense network. Chapter 03.

The law. Let S be the channels that are removed, in all the tensors that they run through. The smaller network computes
the same function as the original in which every weight that *reads* a channel of S is zero. It is the readers that
count: a channel whose own weights are all zero still emits its bias, or what the normalisation makes of it.

`remove` checks the law each time, on random numbers in float64, and returns nothing that breaks it.
"""

import copy
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from compress_lib.network import targets
from compress_lib.network.op_kinds import CONVOLUTIONS
from compress_lib.network.tracing import line_of_the_model, trace
from compress_lib.pruning.surgery import cutting
from compress_lib.pruning.surgery.channels import Channels
from compress_lib.pruning.surgery.cutting import load, save
from compress_lib.pruning.surgery.symbols import Names
from compress_lib.report import Report

__all__ = ["Group", "SurgeryReport", "groups", "load", "remove", "save"]

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
        Layer to the unit of each channel that it makes, reads, or gives a parameter of its own (batch normalisation,
        PReLU): ``(channels,)`` int64, −1 where the channel is of another group.
    fixed : str
        Why nothing of the group can be removed; empty if units can.
    """

    size: int
    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]
    scales: dict[str, Tensor]
    fixed: str = ""


@dataclass
class Change:
    """What happened to one layer."""

    layer: str
    kind: str
    inputs: str
    outputs: str
    weights: int
    kept: int


@dataclass
class SurgeryReport(Report):
    """The layers that shrank, and which of their channels are left.

    Attributes
    ----------
    kept_outputs, kept_inputs : dict of str to Tensor
        Layer to the indices, in the original layer, of the channels that are left; only layers that lost some.
    """

    kept_outputs: dict[str, Tensor] = field(default_factory=dict, repr=False)
    kept_inputs: dict[str, Tensor] = field(default_factory=dict, repr=False)


def groups(model: nn.Module, example_input: Tensor) -> list[Group]:
    """The groups of coupled channels of a network, in the order in which its layers make them.

    Parameters
    ----------
    model : nn.Module
        Left as it is. It is followed as it runs in evaluation mode; layers that run in training mode only (auxiliary
        classifiers) are followed as well.
    example_input : Tensor
        A batch that the model takes; only its shape is used.

    Raises
    ------
    TypeError
        If ``model`` is not a module or ``example_input`` not a tensor.
    ValueError
        If ``torch.fx`` cannot trace the model, or ``example_input`` does not fit it.
    """
    names = _names(model, example_input)
    kin = copy.deepcopy(names)
    for made in names.outputs.values():
        kin.join(made.view(-1, 1), where="")  # the channels that one layer makes are of one group
    reasons = names.reasons()
    members: dict[int, list[int]] = {}  # group → its units, by the name that stands for each
    places: dict[int, tuple[int, int]] = {}  # unit → number of the group, number of the unit in it
    for made in names.outputs.values():
        for unit in _roots(names, made):
            units = members.setdefault(kin.root(unit), [])
            if unit not in places:
                places[unit] = (list(members).index(kin.root(unit)), len(units))
                units.append(unit)
    found = []
    for units in members.values():
        why = next((reasons[unit] for unit in units if unit in reasons), "" if len(units) > 1 else _ALL_TIED)
        found.append(Group(len(units), {}, {}, {}, why))
    for side in ("outputs", "inputs", "scales"):
        for layer, vector in getattr(names, side).items():
            group, unit = torch.tensor([places.get(name, (-1, -1)) for name in _roots(names, vector)]).T
            for number in group[group >= 0].unique().tolist():
                getattr(found[number], side)[layer] = torch.where(group == number, unit, -1)
    return found


def remove(
    model: nn.Module, example_input: Tensor, removals: Mapping[str, Iterable[int]]
) -> tuple[nn.Module, SurgeryReport]:
    """Remove channels, and all that is coupled to them.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes; only its shape is used (and its numbers if they are whole ones).
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
        If ``removals`` is no mapping, or what it maps to no whole numbers; and for what `groups` refuses.
    ValueError
        If a layer does not exist or cannot be cut (with the reason), indices are out of range or repeated, or a
        layer would be left without channels; if the network does not run without these channels, or is random in
        evaluation mode; and for what `groups` refuses.
    RuntimeError
        If the smaller network computes something else than the law above demands.
    """
    found = groups(model, example_input)
    doomed = _doomed_units(found, removals)
    kept_outputs, kept_inputs, kept_scales = ({}, {}, {})
    for side, kept in (("outputs", kept_outputs), ("inputs", kept_inputs), ("scales", kept_scales)):
        for group, gone in zip(found, doomed):
            if gone:
                for layer, units in getattr(group, side).items():
                    stays = ~torch.isin(units, torch.tensor(sorted(gone)))
                    kept[layer] = kept.get(layer, True) & stays
        if empty := [layer for layer, stays in kept.items() if not stays.any()]:
            raise ValueError(f"removals would leave layer {empty[0]!r} without {side}; keep at least one")
        for layer in kept:
            kept[layer] = kept[layer].nonzero().flatten()
    smaller = copy.deepcopy(model)
    for layer in dict.fromkeys([*kept_outputs, *kept_inputs, *kept_scales]):
        outputs = kept_outputs.get(layer, kept_scales.get(layer))
        cutting.cut(smaller.get_submodule(layer), outputs, kept_inputs.get(layer))
    _check_the_law(model, smaller, example_input, kept_inputs, f"channels of {list(removals)}")
    report = _report(model, smaller, kept_outputs, kept_inputs, kept_scales)
    return smaller, report


def _names(model: nn.Module, example_input: Tensor) -> Names:
    if not isinstance(example_input, Tensor):
        raise TypeError(f"example_input must be a tensor, got {type(example_input).__name__}")
    if not example_input.numel():
        raise ValueError(f"example_input must not be empty, got shape {tuple(example_input.shape)}")
    names, graph = Names(), trace(model)
    shared = targets.sharing(model)
    Channels(graph, names, shared).follow(example_input)
    reached = names.outputs.keys()
    if any(isinstance(m, (nn.Linear, *CONVOLUTIONS)) and n not in reached for n, m in model.named_modules()):
        Channels(trace(model, training=True), names, shared).follow(example_input)
    return names


def _roots(names: Names, vector: Tensor) -> list[int]:
    return [names.root(name) for name in vector.tolist()]


def _indices(layer: str, indices: Iterable[int], width: int) -> Tensor:
    """The indices as a tensor, after all checks."""
    try:
        indices = indices.tolist() if isinstance(indices, Tensor) else list(indices)
        numbers = [operator.index(i) for i in indices if not isinstance(i, bool)]
    except TypeError:
        numbers = None
    if numbers is None or len(numbers) < len(indices):
        raise TypeError(f"removals[{layer!r}] must be whole numbers, the indices of channels, got {indices!r}")
    if numbers and not 0 <= min(numbers) <= max(numbers) < width:
        raise ValueError(f"removals[{layer!r}]: the layer has channels 0 to {width - 1}, got {numbers}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"removals[{layer!r}]: channels are repeated: {numbers}")
    return torch.tensor(numbers, dtype=torch.long)


def _doomed_units(found: list[Group], removals: Mapping[str, Iterable[int]]) -> list[set[int]]:
    """The units to remove of each group, after all checks of what the caller asked for."""
    doomed: list[set[int]] = [set() for _ in found]
    owners = {layer: number for number, group in enumerate(found) for layer in group.outputs}
    if not isinstance(removals, Mapping):
        raise TypeError(f"removals must map layer names to indices of channels, got {type(removals).__name__}")
    for layer, indices in removals.items():
        if layer not in owners:
            raise ValueError(f"removals: no layer {layer!r} that makes channels; the model has {list(owners)}")
        group = found[owners[layer]]
        units = group.outputs[layer]
        units = units[_indices(layer, indices, len(units))].tolist()
        if units and group.fixed:
            raise ValueError(f"removals: layer {layer!r} cannot lose channels: {group.fixed}")
        doomed[owners[layer]] |= set(units)
    return doomed


@torch.no_grad()
def _check_the_law(original: nn.Module, smaller: nn.Module, x: Tensor, kept_inputs: Mapping[str, Tensor], layers: str):
    def reference(precise: bool = True) -> nn.Module:
        model = copy.deepcopy(original).eval()
        for layer, kept in kept_inputs.items():
            cutting.silence(model.get_submodule(layer), kept)
        return model.double() if precise else model

    smaller, precise = copy.deepcopy(smaller).eval(), True
    if x.is_floating_point():  # zeros would prove nothing
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    wide = x.double() if x.is_floating_point() else x
    try:
        expected = _outputs(reference(), wide)
        smaller, x = smaller.double(), wide
    except RuntimeError:  # a type is written into the network, or the device does not have this one
        precise = False
        expected = _outputs(reference(precise), x)
    try:
        found = _outputs(smaller, x)
    except Exception as error:
        line = line_of_the_model(error)
        raise ValueError(f"removals: the model does not run without {layers}: {line}: {error}") from error
    if not _alike(expected, found):
        if not _alike(expected, _outputs(reference(precise), x)):
            raise ValueError(f"model={type(original).__name__} is random in evaluation mode; that cannot be checked")
        raise RuntimeError(f"the {type(original).__name__} without {layers} computes something else; report this")


def _outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(model(x)) if isinstance(leaf, Tensor)]


def _alike(expected: list[Tensor], found: list[Tensor]) -> bool:
    """Equal but for what is lost when sums are taken in another order, relative to the largest number."""
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        return False
    for one, other in zip(expected, found):
        largest = one[one.isfinite()].abs().max().item() if one.isfinite().any() else 0
        precision = torch.finfo(one.dtype).eps ** 0.5 if one.is_floating_point() else 0
        if not torch.allclose(one, other, rtol=0, atol=4 * precision * largest, equal_nan=True):
            return False
    return True


def _report(original: nn.Module, smaller: nn.Module, kept_outputs, kept_inputs, kept_scales) -> SurgeryReport:
    rows = []
    changed = {**kept_scales, **kept_inputs, **kept_outputs}
    for name, before in original.named_modules():
        if name in changed:
            after = smaller.get_submodule(name)
            sizes = [f"{a}" if a == b else f"{a} → {b}" for a, b in zip(cutting.of(before), cutting.of(after))]
            rows.append(Change(name, type(before).__name__, *sizes, _count(before), _count(after)))
    return SurgeryReport(rows, title="Removed channels", kept_outputs=kept_outputs, kept_inputs=kept_inputs)


def _count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())
