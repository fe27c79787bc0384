"""Filter pruning: remove whole filters, by any criterion, one fraction per layer. Chapters 03 and 04.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710: rank the
filters of a layer by their L1 norm, remove the lowest, and with each the kernels of the next layer that read it. In a
residual network the first convolution of a block is free, while the last one gives up only the channels that the
shortcut gives up too. Here both are one rule: channels that can only go together (`compress_lib.pruning.surgery`) are
scored together.
"""

import math
from collections.abc import Callable, Collection, Mapping
from numbers import Real

import torch
from torch import Tensor, nn

from compress_lib.network import targets
from compress_lib.network.recording import LayerRecord, record
from compress_lib.pruning import criteria, surgery

Criterion = Callable[[nn.Module, LayerRecord | None], Tensor]


def prune(
    model: nn.Module,
    example_input: Tensor,
    fraction: float | Mapping[str, float],
    *,
    criterion: Criterion = criteria.l1_norm,
    exclude: Collection[str] = (),
    data: Tensor | tuple[Tensor, Tensor] | None = None,
) -> tuple[nn.Module, surgery.SurgeryReport]:
    """Remove a fraction of the channels of each group of coupled layers, the lowest scores first.

    Of a group of n units ``⌊fraction · n⌋`` are removed, but never the last channel of a layer. A unit's score is the mean over the layers that
    make its channels, each layer's scores divided by their mean magnitude, so that all layers count alike. Grouped and
    depthwise convolutions filter channels that another layer makes; they are scored only where there is no other. Among
    equal scores the first unit goes first.

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
        ``(layer, observation) -> scores``, one finite number per output channel, high for what to keep. See
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
        `surgery.groups` and `observe` refuse.
    """
    groups = surgery.groups(model, example_input)
    skipped = _skipped(model, groups, exclude)
    free = [group for group in groups if not skipped.keys() & group.outputs.keys()]
    doomed = []
    for group, part in zip(free, _fractions(free, fraction, skipped)):
        # The small number mends products such as 0.29 · 100 = 28.999…
        count = 0 if part is None else min(math.floor(part * group.size + 1e-9), group.size - 1)
        if count:
            doomed.append((group, count))
        else:
            reason = "no fraction given" if part is None else f"{part} of {group.size} units is less than one"
            skipped |= dict.fromkeys(group.outputs, reason)
    scored = [_scored(model, group) for group, _ in doomed]
    observable = record(model)  # a layer that runs twice is not, and its weights can be ranked all the same
    wanted = [name for names in scored for name in names if name in observable]
    images, labels = data if isinstance(data, tuple) else (data, None)
    observations = record(model, images, labels, wanted)
    removals, warnings = {}, []
    for (group, count), names in zip(doomed, scored):
        scores = {name: _scores(criterion, name, model.get_submodule(name), observations.get(name)) for name in names}
        lowest = _lowest(group, _unit_scores(group, scores), count)
        if len(lowest) < count:
            warnings.append(f"{list(group.outputs)} lose {len(lowest)} units, not {count}: each layer keeps a channel")
        for name, units in group.outputs.items():
            removals[name] = torch.isin(units, torch.tensor(lowest)).nonzero().flatten()
    smaller, report = surgery.remove(model, example_input, removals)
    report.skipped |= skipped
    report.warnings += warnings
    report.title = f"Filter pruning by {_name(criterion)}"
    return smaller, report


def _skipped(model: nn.Module, groups: list[surgery.Group], exclude: Collection[str]) -> dict[str, str]:
    """The layers whose channels may not be touched: name to reason."""
    if isinstance(exclude, str):
        raise TypeError(f"exclude must be a collection of layer names, got the single string {exclude!r}")
    followed = {name for group in groups for name in group.outputs}
    layers = [n for n, layer in model.named_modules() if n in followed or isinstance(layer, targets.PRUNABLE)]
    if unknown := sorted(set(exclude) - set(layers)):
        raise ValueError(f"exclude names {unknown}, which are not among the layers that make channels: {layers}")
    reason = "its channels cannot be followed (masked, transposed, or not run)"
    skipped = {name: reason for name in layers if name not in followed}
    for group in groups:
        if group.fixed:
            skipped |= dict.fromkeys(group.outputs, group.fixed)
        elif chosen := [name for name in group.outputs if name in exclude]:
            skipped |= dict.fromkeys(group.outputs, f"coupled to {chosen[0]!r}, which is excluded")
            skipped |= dict.fromkeys(chosen, "excluded")
    return skipped


def _fractions(
    free: list[surgery.Group], fraction: float | Mapping[str, float], skipped: Mapping[str, str]
) -> list[float | None]:
    """One checked fraction per group, None where none is given."""
    if not isinstance(fraction, Mapping):
        _check_fraction(fraction, "fraction")
        return [fraction] * len(free)
    for name, value in fraction.items():
        _check_fraction(value, f"fraction[{name!r}]")
        if name in skipped:
            raise ValueError(f"fraction names {name!r}, which cannot lose channels: {skipped[name]}")
    names = [name for group in free for name in group.outputs]
    if unknown := sorted(fraction.keys() - set(names)):
        raise ValueError(f"fraction names {unknown}, which are not among the layers to prune: {names}")
    found = []
    for group in free:
        given = {name: fraction[name] for name in group.outputs if name in fraction}
        if len(set(given.values())) > 1:
            raise ValueError(f"fraction gives different values to layers that are pruned together: {given}")
        found.append(next(iter(given.values()), None))
    return found


def _check_fraction(value: float, argument: str) -> None:
    if not isinstance(value, Real):
        raise TypeError(f"{argument} must be a number, got {type(value).__name__}")
    if not 0 <= value < 1:
        raise ValueError(f"{argument} must be in [0, 1), got {value}")


def _scored(model: nn.Module, group: surgery.Group) -> list[str]:
    """The layers of a group that are scored: those that make channels out of others, if they make all units."""
    dense = [name for name in group.outputs if getattr(model.get_submodule(name), "groups", 1) == 1]
    made = {unit for name in dense for unit in group.outputs[name].tolist()}
    return dense if made >= set(range(group.size)) else list(group.outputs)


def _scores(criterion: Criterion, name: str, layer: nn.Module, observation: LayerRecord | None) -> Tensor:
    try:
        scores = criterion(layer, observation)
    except ValueError as error:
        unseen = " (it does not run exactly once, so it is not observed)" if observation is None else ""
        raise ValueError(f"layer {name!r}{unseen}: {error}") from error
    where = f"criterion {_name(criterion)} on layer {name!r}"
    if not isinstance(scores, Tensor) or scores.shape != (len(layer.weight),):
        found = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"{where} must return a tensor of {len(layer.weight)} scores, got {found}")
    if not scores.isfinite().all():
        raise ValueError(f"{where} returned NaN or infinite scores")
    return scores.detach().cpu().double()


def _unit_scores(group: surgery.Group, scores: Mapping[str, Tensor]) -> Tensor:
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


def _lowest(group: surgery.Group, scores: Tensor, count: int) -> list[int]:
    """The units with the lowest scores, without those that are the last that a layer makes."""
    left = [set(units.tolist()) for units in group.outputs.values()]
    chosen = []
    for unit in scores.argsort(stable=True).tolist():
        if len(chosen) < count and {unit} not in left:
            chosen.append(unit)
            for units in left:
                units.discard(unit)
    return chosen


def _name(criterion: Criterion) -> str:
    return getattr(criterion, "__name__", repr(criterion))
