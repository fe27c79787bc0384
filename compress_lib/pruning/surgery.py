"""Removing channels from a network: what is left is an ordinary, smaller, dense network. Chapter 03.

The law. Let S be the channels that are removed, in all the tensors that they run through. The smaller network computes
the same function as the original in which every weight that *reads* a channel of S is zero. It is the readers that
count: a channel whose own weights are all zero still emits its bias, or what the normalisation makes of it.

`remove` checks the law on the example input each time, and returns nothing that breaks it.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from compress_lib.pruning import targets, widths
from compress_lib.pruning.channels import Channels
from compress_lib.pruning.kinds import CONVOLUTIONS
from compress_lib.pruning.names import NAMELESS, Names
from compress_lib.pruning.report import Report
from compress_lib.pruning.tracing import trace
from compress_lib.pruning.widths import load, save

__all__ = ["Group", "SurgeryReport", "groups", "load", "remove", "save"]

# What float32 loses when sums are taken in another order, relative to the largest output.
_TOLERANCE = 1e-3


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

    kept_outputs: dict[str, Tensor] = field(default_factory=dict)
    kept_inputs: dict[str, Tensor] = field(default_factory=dict)


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
    owner = {name: name for name in range(len(names))}  # the groups, as a forest over the roots

    def find(name: int) -> int:
        while owner[name] != name:
            owner[name] = owner[owner[name]]
            name = owner[name]
        return name

    makers = {layer: _roots(names, made) for layer, made in names.outputs.items()}
    for made in makers.values():
        for name in made[1:]:
            owner[find(name)] = find(made[0])
    reasons = names.reasons()
    units: dict[int, dict[int, int]] = {}  # group → root → number of the unit
    fixed: dict[int, str] = {}
    for made in makers.values():
        for name in made:
            members = units.setdefault(find(name), {})
            members.setdefault(name, len(members))
            if name in reasons:
                fixed.setdefault(find(name), reasons[name])
    return [
        Group(
            len(members),
            *(_units(names, side, members) for side in (names.outputs, names.inputs, names.scales)),
            fixed.get(group, ""),
        )
        for group, members in units.items()
    ]


def remove(
    model: nn.Module, example_input: Tensor, removals: Mapping[str, Iterable[int]]
) -> tuple[nn.Module, SurgeryReport]:
    """Remove channels, and all that is coupled to them.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes. The result is compared with the original on it.
    removals : mapping of str to iterable of int
        Layer name to the output channels (features) to remove.

    Returns
    -------
    model : nn.Module
        A smaller network of the same class, with ordinary dense layers.
    report : SurgeryReport
        What shrank, and which channels are left.

    Raises
    ------
    ValueError
        If a layer does not exist or cannot be cut (with the reason), indices are out of range or repeated, or a
        layer would be left without channels; and for what `groups` refuses.
    RuntimeError
        If the smaller network does not run, or computes something else than the law above demands.
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
        widths.cut(smaller.get_submodule(layer), outputs, kept_inputs.get(layer))
    _check_the_law(model, smaller, example_input, kept_inputs)
    report = _report(model, smaller, kept_outputs, kept_inputs, kept_scales)
    return smaller, report


def _names(model: nn.Module, example_input: Tensor) -> Names:
    if not isinstance(example_input, Tensor):
        raise TypeError(f"example_input must be a tensor, got {type(example_input).__name__}")
    names, shared = Names(), targets.sharing(model)
    Channels(trace(model), names, shared).follow(example_input.shape)
    reached = names.outputs.keys()
    if any(isinstance(m, (nn.Linear, *CONVOLUTIONS)) and n not in reached for n, m in model.named_modules()):
        Channels(trace(model, training=True), names, shared).follow(example_input.shape)
    return names


def _roots(names: Names, vector: Tensor) -> list[int]:
    return [names.root(name) for name in vector.tolist()]


def _units(names: Names, side: Mapping[str, Tensor], members: Mapping[int, int]) -> dict[str, Tensor]:
    found = {}
    for layer, vector in side.items():
        units = [members.get(name, -1) if name != NAMELESS else -1 for name in _roots(names, vector)]
        if max(units) >= 0:
            found[layer] = torch.tensor(units)
    return found


def _doomed_units(found: list[Group], removals: Mapping[str, Iterable[int]]) -> list[set[int]]:
    """The units to remove of each group, after all checks of what the caller asked for."""
    doomed: list[set[int]] = [set() for _ in found]
    owners = {layer: number for number, group in enumerate(found) for layer in group.outputs}
    for layer, indices in removals.items():
        if layer not in owners:
            raise ValueError(f"removals: no layer {layer!r} that makes channels; the model has {list(owners)}")
        group = found[owners[layer]]
        units = group.outputs[layer]
        indices = torch.as_tensor(indices if isinstance(indices, Tensor) else list(indices), dtype=torch.long)
        if not len(indices):
            continue
        if group.fixed:
            raise ValueError(f"removals: layer {layer!r} cannot lose channels: {group.fixed}")
        if indices.min() < 0 or indices.max() >= len(units):
            raise ValueError(f"removals: layer {layer!r} has channels 0 to {len(units) - 1}, got {indices.tolist()}")
        if len(indices.unique()) < len(indices):
            raise ValueError(f"removals: channels of layer {layer!r} are repeated: {indices.tolist()}")
        doomed[owners[layer]] |= set(units[indices].tolist())
    return doomed


@torch.no_grad()
def _check_the_law(original: nn.Module, smaller: nn.Module, x: Tensor, kept_inputs: Mapping[str, Tensor]) -> None:
    reference = copy.deepcopy(original).eval()
    for layer, kept in kept_inputs.items():
        widths.silence(reference.get_submodule(layer), kept)
    training = smaller.training
    try:
        expected, found = reference(x), smaller.eval()(x)
    except RuntimeError as error:
        raise RuntimeError(f"the smaller {type(original).__name__} does not run: {error}") from error
    finally:
        smaller.train(training)
    difference = (expected - found).abs().max().item()
    if not difference <= _TOLERANCE * expected.abs().max().item():
        raise RuntimeError(
            f"the smaller {type(original).__name__} computes something else: outputs differ by {difference}"
        )


def _report(original: nn.Module, smaller: nn.Module, kept_outputs, kept_inputs, kept_scales) -> SurgeryReport:
    rows = []
    changed = {**kept_scales, **kept_inputs, **kept_outputs}
    for name, before in original.named_modules():
        if name in changed:
            after = smaller.get_submodule(name)
            sizes = [f"{a}" if a == b else f"{a} → {b}" for a, b in zip(widths.of(before), widths.of(after))]
            rows.append(Change(name, type(before).__name__, *sizes, _count(before), _count(after)))
    return SurgeryReport(rows, title="Removed channels", kept_outputs=kept_outputs, kept_inputs=kept_inputs)


def _count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())
