"""A threshold over real weights, as sliders. Chapter 02; the computation is in ``weight_threshold.mjs``.

Han et al. 2015, arXiv 1506.02626, set the threshold of a layer to a multiple of the standard deviation of its weights.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all layers"
STEP = 0.05  # of the slider, and width of a bin, in standard deviations


def explorer(
    weights: Mapping[str, np.ndarray],
    curves: Mapping[str, tuple[Sequence[float], ...]],
    *,
    images: tuple[str, np.ndarray] | None = None,
    k: float = 0.5,
    k_max: float = 4.0,
) -> Explorer:
    """The threshold explorer over the weights of one network.

    Parameters
    ----------
    weights : mapping of str to array
        Layer name to its weight, output units along the first axis.
    curves : mapping of str to (sparsities, accuracies) or (sparsities, accuracies, accuracies retrained)
        Measured accuracies in [0, 1] at ascending sparsities, per layer (only that layer pruned) and for
        ``"all layers"``. Between the points the page interpolates; what has no curve shows no accuracy.
    images : (layer name, array of shape (units, height, width)), optional
        A few units' incoming weights to draw; removed weights turn blank.
    k : float
        Threshold at the start, in standard deviations, a multiple of 0.05.
    k_max : float
        End of the slider.

    Returns
    -------
    Explorer
        With ``results`` kept, sparsity, dense_bytes, csr_bytes, bitmask_bytes (of the chosen weights, float32 values
        and 4-byte indices), accuracy and retrained (None where nothing was measured).

    Raises
    ------
    ValueError
        If there are no weights, a weight has fewer than two axes, is constant or not finite, a curve or ``images``
        names no layer, or a curve's lists differ in length, are not ascending in sparsity or leave [0, 1].
    """
    if not weights:
        raise ValueError("weights must name at least one layer")
    for name in {*curves, *(images or ())[:1]} - {*weights, ALL}:
        raise ValueError(f"{name!r} is not among the layers {list(weights)}")
    layers = [_layer(name, np.asarray(weight, dtype=np.float64)) for name, weight in weights.items()]
    measured = {name: _curve(name, *curve) for name, curve in curves.items()}
    data = {"step": STEP, "layers": layers, "curves": measured}
    if images:
        name, values = images
        labels = [f"unit {i}" for i in range(len(values))]
        data["images"] = {
            "layer": name,
            "values": values.astype(np.float16),
            "labels": labels,
            "max": 4 * np.std(weights[name]),
        }
    steps = [j * STEP for j in range(round(k_max / STEP) + 1)]
    return Explorer(
        "weight_threshold",
        controls=[
            slider("k", "threshold, in standard deviations of each layer", steps, k, "σ"),
            choice("layer", "layer", [ALL, *weights], ALL),
        ],
        title="Where would you cut?",
        data=data,
        fallback=lambda: _figure(layers, k, measured.get(ALL)),
        alt=(
            "Left, a histogram of the weights of all layers in standard deviations of their layer, a narrow "
            "bell around zero "
            f"whose middle part, below {k:g} σ in magnitude, is marked as removed. Right, measured accuracy "
            "against sparsity."
        ),
    )


def _layer(name: str, weight: np.ndarray) -> dict:
    """Counts of the weights between successive multiples of STEP·σ, above and below zero apart."""
    if weight.ndim < 2:
        raise ValueError(f"weights[{name!r}] must have at least two axes, got shape {weight.shape}")
    if not np.isfinite(weight).all():
        raise ValueError(f"weights[{name!r}] must be finite, got NaN or infinity")
    sigma = weight.std()
    if sigma == 0:
        raise ValueError(f"weights[{name!r}] are all equal, so no multiple of their standard deviation parts them")
    bins = int(np.abs(weight).max() / (sigma * STEP)) + 1
    thresholds = [float(f"{j * STEP:.10g}") * sigma for j in range(bins + 1)]  # the slider's own values, times σ

    def counts(magnitudes):
        below = np.searchsorted(np.sort(magnitudes.ravel()), thresholds)
        return np.diff(below).astype(np.uint32)

    positive, negative = counts(weight[weight >= 0]), counts(-weight[weight < 0])
    return {
        "name": name,
        "rows": len(weight),
        "size": weight.size,
        "sigma": sigma,
        "positive": positive,
        "negative": negative,
    }


def _curve(
    name: str, sparsity: Sequence[float], accuracy: Sequence[float], retrained: Sequence[float] | None = None
) -> dict:
    curve = {"sparsity": list(sparsity), "accuracy": list(accuracy)}
    if retrained is not None:
        curve["retrained"] = list(retrained)
    if len({len(values) for values in curve.values()}) > 1 or not curve["sparsity"]:
        raise ValueError(f"curves[{name!r}] must be lists of one length, got {[len(v) for v in curve.values()]}")
    if any(a >= b for a, b in itertools.pairwise(sparsity)):
        raise ValueError(f"sparsities of curves[{name!r}] must ascend, got {list(sparsity)}")
    if any(not 0 <= value <= 1 for values in curve.values() for value in values):
        raise ValueError(f"curves[{name!r}] must lie in [0, 1], got {curve}")
    return curve


def _figure(layers: list[dict], k: float, curve: dict | None) -> "Figure":
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    half = max(max(len(layer["positive"]), len(layer["negative"])) for layer in layers)
    values = np.zeros(2 * half)
    for layer in layers:
        values[half : half + len(layer["positive"])] += layer["positive"]
        values[half - len(layer["negative"]) : half] += layer["negative"][::-1]
    edges = (np.arange(2 * half + 1) - half) * STEP
    middle = np.abs(edges[:-1] + STEP / 2) < k
    left.stairs(np.where(middle, 0, values), edges, fill=True, label="kept")
    left.stairs(
        np.where(middle, values, 0), edges, fill=True, color="0.8", hatch="///", edgecolor="0.45", label="removed"
    )
    left.set(xlabel="weight ÷ σ of its layer", ylabel="weights", xlim=(-5, 5))
    left.legend(frameon=False)
    if curve:
        right.plot(curve["sparsity"], curve["accuracy"], "o-", label="not retrained")
        if "retrained" in curve:
            right.plot(curve["sparsity"], curve["retrained"], "s--", label="retrained")
        right.legend(frameon=False)
    right.set(xlabel="sparsity", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
