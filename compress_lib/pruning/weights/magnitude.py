"""Magnitude pruning: remove the weights that are smallest. Chapter 02.

Han, Pool, Tran, Dally, "Learning both weights and connections for efficient neural networks", 2015, arXiv 1506.02626:
train, remove the small weights, train the survivors on from their values, repeat. Three ways to say "small" are here:

- `prune` removes a given fraction, over the whole network or layer by layer;
- `prune_by_threshold` removes ``|w| < t``;
- `prune_by_sigma` measures the threshold in standard deviations of the layer: Han's ``|w| < q·std(w)``, or the kσ
  rule, which removes ``|w − mean| ≤ k·std(w)``.

Each returns a masked copy of the model (see `compress_lib.network.masks`) and a report. A model that is masked already
is pruned further: what was removed stays removed.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress_lib import checks
from compress_lib.network import masks, targets
from compress_lib.report import LayerRow, Report


@dataclass
class PrunedLayer(LayerRow):
    """One pruned layer. ``threshold`` parts the removed weights from the kept ones; each function says how."""

    sparsity: float
    threshold: float


def prune(
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    *,
    scope: str = "global",
    exclude: Collection[str] = (),
) -> tuple[nn.Module, Report]:
    """Remove a fraction of the weights, the smallest magnitudes first.

    Of n weights exactly ``round(sparsity * n)`` are removed, as in ``torch.nn.utils.prune``. Among equal magnitudes
    the one that comes first in the network goes first. The fraction is of all weights: those a mask has removed
    already count, and if they are more than the fraction asks for, nothing changes.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    sparsity : float or mapping of str to float
        Fraction in [0, 1). With ``scope="layer"`` also a mapping from layer name to fraction; layers that it does not
        name are left alone.
    scope : {"global", "layer"}
        Rank the weights of all layers together, or each layer's by themselves.
    exclude : collection of str
        Layers to leave alone.

    Returns
    -------
    (nn.Module, Report)
        The masked model, and one `PrunedLayer` per layer whose ``threshold`` is the smallest magnitude kept (infinite
        if none is): pruning by that threshold gives the same masks, ties aside.

    Raises
    ------
    TypeError, ValueError
        For a sparsity outside [0, 1), an unknown scope or layer name, non-finite weights, or nothing to prune.
    """
    if scope not in ("global", "layer"):
        raise ValueError(f"scope must be 'global' or 'layer', got {scope!r}")
    magnitudes = {
        name: torch.where(mask, weight.abs(), -1)  # a removed weight ranks below every other
        for name, (weight, mask) in _weights(model, exclude).items()
    }
    if scope == "global":
        if isinstance(sparsity, Mapping):
            raise ValueError('a sparsity per layer needs scope="layer"')
        checks.fraction("sparsity", sparsity)
        pooled = torch.cat([magnitude.flatten() for magnitude in magnitudes.values()])
        keep = ~_smallest(pooled, round(sparsity * pooled.numel()))
        cut = _smallest_kept(pooled, keep)
        parts = keep.split([magnitude.numel() for magnitude in magnitudes.values()])
        keeps = {name: part.view_as(magnitudes[name]) for name, part in zip(magnitudes, parts, strict=True)}
        thresholds = dict.fromkeys(magnitudes, cut)
    else:
        wanted = _per_layer(sparsity, "sparsity", magnitudes, checks.fraction)
        keeps = {name: ~_smallest(magnitudes[name], round(s * magnitudes[name].numel())) for name, s in wanted.items()}
        thresholds = {name: _smallest_kept(magnitudes[name], keep) for name, keep in keeps.items()}
    return _apply(model, keeps, thresholds, exclude, f"Magnitude pruning, scope {scope}")


def prune_by_threshold(
    model: nn.Module, thresholds: float | Mapping[str, float], *, exclude: Collection[str] = ()
) -> tuple[nn.Module, Report]:
    """Remove every weight with ``|w| < t``.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    thresholds : float or mapping of str to float
        One t ≥ 0 for all layers, or one per layer name; layers that the mapping does not name are left alone.
    exclude : collection of str
        Layers to leave alone.

    Returns
    -------
    (nn.Module, Report)
        The masked model, and one `PrunedLayer` per layer with its t.

    Raises
    ------
    TypeError, ValueError
        For a negative or non-finite threshold, an unknown layer name, non-finite weights, or nothing to prune.
    """
    weights = _weights(model, exclude)
    wanted = _per_layer(thresholds, "thresholds", weights, checks.non_negative)
    keeps = {name: weights[name][0].abs() >= t for name, t in wanted.items()}
    return _apply(model, keeps, wanted, exclude, "Pruning by threshold")


def prune_by_sigma(
    model: nn.Module, k: float | Mapping[str, float], *, center: str = "mean", exclude: Collection[str] = ()
) -> tuple[nn.Module, Report]:
    """Remove the weights within k standard deviations of the center of their layer.

    - ``center="mean"``, the kσ rule: keep ``|w − μ| > k·σ``. Of normally distributed weights k = 1, 2, 3 keeps 31.73,
      4.55 and 0.27 %.
    - ``center="zero"``, Han's rule: keep ``|w| ≥ k·σ``; k is the paper's quality parameter q.

    μ and σ are the mean and the standard deviation (divisor n) of the weights that the layer has left.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    k : float or mapping of str to float
        One k ≥ 0 for all layers, or one per layer name; layers that the mapping does not name are left alone.
    center : {"mean", "zero"}
        Which of the two rules.
    exclude : collection of str
        Layers to leave alone. A small output layer belongs here: a few survivors cannot tell its classes apart.

    Returns
    -------
    (nn.Module, Report)
        The masked model, and one `PrunedLayer` per layer whose ``threshold`` is k·σ.

    Raises
    ------
    TypeError, ValueError
        For a negative or non-finite k, an unknown center or layer name, non-finite weights, or nothing to prune.
    """
    if center not in ("mean", "zero"):
        raise ValueError(f"center must be 'mean' or 'zero', got {center!r}")
    weights = _weights(model, exclude)
    keeps, thresholds = {}, {}
    for name, multiple in _per_layer(k, "k", weights, checks.non_negative).items():
        weight, mask = weights[name]
        weight = weight.double()
        left = weight[mask]
        thresholds[name] = threshold = multiple * left.std(correction=0).item()
        if center == "mean":
            keeps[name] = (weight - left.mean()).abs() > threshold
        else:
            keeps[name] = weight.abs() >= threshold
    what = "|w − mean| ≤ k·σ" if center == "mean" else "|w| < k·σ"
    return _apply(model, keeps, thresholds, exclude, f"Pruning of {what}")


def _weights(model: nn.Module, exclude: Collection[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer name to its weight and its present mask, both on the CPU. Refuses weights that cannot be ranked."""
    layers = targets.prunable(model, exclude)
    present = masks.masks(model)
    weights = {}
    for name, module in layers.items():
        weight = module.weight.detach().cpu()
        if not weight.isfinite().all():
            raise ValueError(f"layer {name!r} has NaN or infinite weights; they cannot be ranked by magnitude")
        weights[name] = weight, present.get(name, torch.ones_like(weight, dtype=torch.bool)).cpu()
    return weights


def _smallest(magnitude: Tensor, count: int) -> Tensor:
    """A bool tensor that is true at the ``count`` smallest entries, the lowest index first among equals."""
    flat = magnitude.flatten()
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    if count:
        last = flat.kthvalue(count).values
        chosen = flat < last
        ties = (flat == last).nonzero().flatten()
        chosen[ties[: count - int(chosen.sum())]] = True
    return chosen.view_as(magnitude)


def _smallest_kept(magnitude: Tensor, keep: Tensor) -> float:
    kept = magnitude[keep & (magnitude >= 0)]
    return kept.min().item() if kept.numel() else math.inf


def _per_layer(
    values: float | Mapping[str, float], argument: str, layers: Collection[str], check: Callable[[str, float], float]
) -> dict[str, float]:
    """One checked number per layer, from one number for all or a mapping for some."""
    if not isinstance(values, Mapping):
        check(argument, values)
        return dict.fromkeys(layers, values)
    if unknown := sorted(values.keys() - set(layers)):
        raise ValueError(f"{argument} names {unknown}, which are not among the layers to prune: {list(layers)}")
    if not values:
        raise ValueError(f"{argument} names no layer; the layers to prune are {list(layers)}")
    for name, value in values.items():
        check(f"{argument}[{name!r}]", value)
    return dict(values)


def _apply(
    model: nn.Module, keeps: dict[str, Tensor], thresholds: dict[str, float], exclude: Collection[str], title: str
) -> tuple[nn.Module, Report]:
    """Mask the model and say what that did."""
    pruned = masks.apply(model, keeps)
    final = masks.masks(pruned)
    skipped = targets.skipped(model, exclude)
    rows = []
    for name, module in targets.prunable(model, exclude).items():
        if name not in keeps:
            skipped[f"{name}.weight"] = "no value given"
            continue
        kind = parametrize.type_before_parametrizations(module).__name__
        total, kept = final[name].numel(), int(final[name].sum())
        rows.append(PrunedLayer(name, kind, total, kept, 1 - kept / total, thresholds[name]))
    warnings = [
        f"layer {row.layer!r} loses all its {row.weights:,} weights, so only its bias is left"
        for row in rows
        if not row.kept
    ]
    return pruned, Report(rows, skipped, warnings, title)
