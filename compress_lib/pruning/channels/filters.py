"""Filter pruning: remove whole filters, by any criterion, one fraction per layer. Chapters 03 and 04.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710: rank the
filters of a layer by their L1 norm, remove the lowest, and with each the kernels of the next layer that read it. In a
residual network the first convolution of a block is free, while the last one gives up only the channels that the
shortcut gives up too. Here both are one rule: channels that can only go together (`compress_lib.pruning.surgery`) are
scored together.
"""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor, nn

from compress_lib.network.recording import LayerRecord, record
from compress_lib.pruning import criteria
from compress_lib.pruning.channels import selection
from compress_lib.pruning.surgery import Coupling, Group, SurgeryReport

Criterion = Callable[[nn.Module, LayerRecord | None], Tensor]


def prune(
    model: nn.Module,
    example_input: Tensor,
    fraction: float | Mapping[str, float],
    *,
    criterion: Criterion = criteria.l1_norm,
    exclude: Collection[str] = (),
    data: Tensor | tuple[Tensor, Tensor] | None = None,
) -> tuple[nn.Module, SurgeryReport]:
    """Remove a fraction of the channels of each group of coupled layers, the lowest scores first.

    Of a group of n units ``⌊fraction · n⌋`` are removed, but never the last channel of a layer. A unit's score is the
    mean over the layers that make its channels, each layer's scores divided by their mean magnitude, so that all layers
    count alike. Grouped and depthwise convolutions filter channels that another layer makes; they are scored only where
    there is no other. Among equal scores the first unit goes first.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    example_input : Tensor
        A batch that the model takes, for `surgery`.
    fraction : float or mapping of str to float
        In [0, 1). A mapping names layers, and its fraction holds for all that is coupled to the layer; groups that it
        does not name are left alone.
    criterion : callable
        ``(layer, record) -> scores``, one finite number per output channel, high for what to keep. See
        `compress_lib.pruning.criteria`.
    exclude : collection of str
        Layers whose output channels stay, and with them all that is coupled to them.
    data : Tensor or (Tensor, Tensor), optional
        Images, or images and labels, for criteria that need them.

    Returns
    -------
    model : nn.Module
        A smaller, dense network of the same class.
    report : SurgeryReport
        Layer by layer what is left; ``skipped`` says why the other layers keep their output channels.

    Raises
    ------
    TypeError, ValueError
        For a fraction outside [0, 1), an unknown layer, two fractions for one group, a layer in the mapping that cannot
        lose channels, a criterion that lacks data or returns something else than finite scores; and for what
        `surgery.Coupling` and `recording.record` refuse.
    """
    coupling = Coupling(model, example_input)
    free, skipped = selection.removable(coupling, exclude)
    losing, too_few = _losing(free, fraction, skipped)
    skipped |= too_few
    scored = [_scored(model, group) for group, _ in losing]
    records = record(model)  # without layers that run twice, whose weights can be ranked all the same
    if data is not None:
        images, labels = data if isinstance(data, tuple) else (data, None)
        records = record(model, images, labels, [name for names in scored for name in names if name in records])
    chosen = []
    for (group, count), names in zip(losing, scored, strict=True):
        scores = {name: _scores(criterion, name, model.get_submodule(name), records.get(name)) for name in names}
        chosen.append((group, _unit_scores(group, scores), count))
    return selection.remove_lowest(coupling, chosen, skipped, f"Filter pruning by {_name(criterion)}")


def _losing(
    free: list[Group], fraction: float | Mapping[str, float], skipped: Mapping[str, str]
) -> tuple[list[tuple[Group, int]], dict[str, str]]:
    """The groups that lose units, and how many; the layers of the other groups, and why they lose none."""
    selection.check_fractions(fraction)
    if isinstance(fraction, Mapping):
        if fixed := [name for name in fraction if name in skipped]:
            raise ValueError(f"fraction names {fixed[0]!r}, which cannot lose channels: {skipped[fixed[0]]}")
        names = [name for group in free for name in group.outputs]
        if unknown := sorted(fraction.keys() - set(names)):
            raise ValueError(f"fraction names {unknown}, which are not among the layers to prune: {names}")
    losing = []
    reasons: dict[str, str] = {}
    for group in free:
        part = selection.fraction_of(group, fraction)
        if part is None:
            reasons |= dict.fromkeys(group.outputs, "no fraction given")
        elif count := selection.unit_count(group, part):
            losing.append((group, count))
        else:
            reasons |= dict.fromkeys(group.outputs, f"{part} of {group.size} units is less than one")
    return losing, reasons


def _scored(model: nn.Module, group: Group) -> list[str]:
    """The layers of a group that are scored: those that make channels out of others, if they make all units."""
    dense = [name for name in group.outputs if getattr(model.get_submodule(name), "groups", 1) == 1]
    made = {unit for name in dense for unit in group.outputs[name].tolist()}
    return dense if made >= set(range(group.size)) else list(group.outputs)


def _scores(criterion: Criterion, name: str, layer: nn.Module, data: LayerRecord | None) -> Tensor:
    try:
        scores = criterion(layer, data)
    except ValueError as error:
        unseen = " (it does not run exactly once, so it is not recorded)" if data is None else ""
        raise ValueError(f"layer {name!r}{unseen}: {error}") from error
    where = f"criterion {_name(criterion)} on layer {name!r}"
    channels = len(layer.get_parameter("weight"))
    if not isinstance(scores, Tensor) or scores.shape != (channels,):
        found = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"{where} must return a tensor of {channels} scores, got {found}")
    if not scores.isfinite().all():
        raise ValueError(f"{where} returned NaN or infinite scores")
    return scores.detach().cpu().double()


def _unit_scores(group: Group, scores: Mapping[str, Tensor]) -> Tensor:
    """``(size,)``: mean over the layers of the mean over the unit's channels of the scaled scores."""
    total, layers = torch.zeros(2, group.size, dtype=torch.float64)
    for name, values in scores.items():
        units = group.outputs[name]
        scale = values.abs().mean()  # the magnitude, so that the order survives scores that are negative
        channels = units.bincount(minlength=group.size)
        sums = torch.zeros_like(total).index_add_(0, units, values / scale if scale else values)
        total += sums / channels.clamp(min=1)
        layers += channels > 0
    return total / layers


def _name(criterion: Criterion) -> str:
    return getattr(criterion, "__name__", repr(criterion))
