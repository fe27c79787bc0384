"""Cutting channels out of a network, and the check that what is left computes what it must. Chapter 03.

The invariant. Let S be the channels that are removed, in all the tensors that they run through. The smaller network
computes the same function as the original in which every weight that *reads* a channel of S is zero. It is the
consumers that count: a channel whose own weights are all zero still emits its bias, or what the normalization makes of
it.

`cut_out` checks the invariant each time, on random numbers in float64, and returns nothing that breaks it.
"""

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from compress_lib.network.tracing import line_of_the_model
from compress_lib.pruning.surgery import cutting
from compress_lib.report import LayerRow, Report


@dataclass(frozen=True)
class Kept:
    """Layer to the indices of the channels left among those that it makes, reads, or scales, if it loses some."""

    outputs: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    scales: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class NarrowedLayer(LayerRow):
    """One layer that lost channels; ``inputs`` and ``outputs`` say how many there were and how many are left."""

    inputs: str
    outputs: str


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


def cut_out(model: nn.Module, example_input: Tensor, kept: Kept, what: str) -> tuple[nn.Module, SurgeryReport]:
    """Copy a network without some channels, and check the invariant.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes; only its shape is used (and its numbers if they are whole ones).
    kept : Kept
        The channels that stay.
    what : str
        Those that go, for messages.

    Returns
    -------
    (nn.Module, SurgeryReport)

    Raises
    ------
    ValueError
        If the network does not run without these channels, or is random in evaluation mode.
    RuntimeError
        If the smaller network breaks the invariant.
    """
    smaller = copy.deepcopy(model)
    for layer in dict.fromkeys([*kept.outputs, *kept.inputs, *kept.scales]):
        outputs = kept.outputs.get(layer, kept.scales.get(layer))
        cutting.cut_(smaller.get_submodule(layer), outputs, kept.inputs.get(layer))
    _check_invariant(model, smaller, example_input, kept.inputs, what)
    return smaller, _report(model, smaller, kept)


@torch.no_grad()
def _check_invariant(
    original: nn.Module, smaller: nn.Module, x: Tensor, kept_inputs: dict[str, Tensor], what: str
) -> None:
    def reference(precise: bool = True) -> nn.Module:
        model = copy.deepcopy(original).eval()
        for layer, kept in kept_inputs.items():
            cutting.zero_other_inputs_(model.get_submodule(layer), kept)
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
        raise ValueError(f"removals: the model does not run without {what}: {line}: {error}") from error
    if not _alike(expected, found):
        if not _alike(expected, _outputs(reference(precise), x)):
            raise ValueError(f"model={type(original).__name__} is random in evaluation mode; that cannot be checked")
        raise RuntimeError(f"the {type(original).__name__} without {what} computes something else; report this")


def _outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(model(x)) if isinstance(leaf, Tensor)]


def _alike(expected: list[Tensor], found: list[Tensor]) -> bool:
    """Equal but for what is lost when sums are taken in another order, relative to the largest number."""
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        return False
    for one, other in zip(expected, found, strict=True):
        largest = one[one.isfinite()].abs().max().item() if one.isfinite().any() else 0
        precision = torch.finfo(one.dtype).eps ** 0.5 if one.is_floating_point() else 0
        if not torch.allclose(one, other, rtol=0, atol=4 * precision * largest, equal_nan=True):
            return False
    return True


def _report(original: nn.Module, smaller: nn.Module, kept: Kept) -> SurgeryReport:
    rows = []
    changed = kept.scales.keys() | kept.inputs.keys() | kept.outputs.keys()
    for name, before in original.named_modules():
        if name in changed:
            after = smaller.get_submodule(name)
            widths = zip(cutting.channel_counts(before), cutting.channel_counts(after), strict=True)
            inputs, outputs = (f"{a}" if a == b else f"{a} → {b}" for a, b in widths)
            rows.append(NarrowedLayer(name, type(before).__name__, _count(before), _count(after), inputs, outputs))
    return SurgeryReport(rows, title="Removed channels", kept_outputs=kept.outputs, kept_inputs=kept.inputs)


def _count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())
