"""Bits, range and rounding of a quantizer, as sliders. Chapter 05; the computation is in ``grid_choice.mjs``.

The grid is that of `compress_lib.quantization.integer.affine`; Jacob et al., CVPR 2018, arXiv 1712.05877.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.explore.frontend.sorted_floats import pack_sorted
from compress_lib.quantization.integer import affine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRIDS = ("symmetric", "asymmetric")
BITS = range(2, 9)
PERCENTS = range(5, 101, 5)


def explorer(
    tensors: Mapping[str, np.ndarray], *, bits: int = 4, percent: int = 60, grid: str = "symmetric"
) -> Explorer:
    """The explorer of the grid for some tensors, which share the page's 300 kB at about 3 bytes a number.

    With t a share of the largest magnitude, the symmetric grid covers [−t, t] with the codes ``−(2^(bits−1) − 1)``
    to ``2^(bits−1) − 1``: ``affine.parameters(-t, t, bits, symmetric=True, narrow=True)``. The asymmetric one has the
    codes 0 to ``2^bits − 1`` for as much of [−t, t] as lies between the ends of the numbers and 0:
    ``affine.parameters(max(low, -t), min(high, t), bits, signed=False)``, with low ≤ 0 ≤ high.

    Parameters
    ----------
    tensors : mapping of str to array
        What it is ("weights of features.14") to its numbers, of any shape, rounded to float32. All of them are sent,
        and all count. The first is shown at the start.
    bits : int
        At the start, from 2 to 8.
    percent : int
        At the start: t in percent of the largest magnitude, a multiple of 5 from 5 to 100.
    grid : {"symmetric", "asymmetric"}
        At the start.

    Returns
    -------
    Explorer
        With ``results`` scale, levels (how many occur), clipped (numbers whose code had to be clamped), rounding
        and clipping (mean squared errors, over all numbers, of those not clipped and clipped), mse (their sum),
        predicted (``Δ²/12`` for each number not clipped) and sqnr (mean square ÷ mse, in decibels; None without error).

    Raises
    ------
    ValueError
        If there are no tensors, one holds no number or none but 0, or is not finite, or they are too large.
    """
    if not tensors:
        raise ValueError("tensors must name at least one tensor")
    numbers = {name: _numbers(name, values) for name, values in tensors.items()}
    first = next(iter(numbers))
    packed = [{"name": name, "values": pack_sorted(x)} for name, x in numbers.items()]
    return Explorer(
        "grid_choice",
        controls=[
            slider("bits", "bits", BITS, bits),
            slider("percent", "range ÷ largest magnitude", PERCENTS, percent, "%"),
            choice("grid", "grid", GRIDS, grid),
            choice("tensor", "tensor", list(numbers), first),
        ],
        title="How far should the grid reach?",
        data={"tensors": packed, "bits": list(BITS), "percents": list(PERCENTS)},
        fallback=lambda: _figure(first, torch.from_numpy(numbers[first]), bits, percent, grid),
        alt=(
            f"Left, a histogram of {first} with the levels of a {grid} {bits}-bit grid over {percent} % of the largest "
            f"magnitude as ticks; what lies beyond is marked as clipped. Right, the mean squared errors of rounding "
            f"and of clipping, and their sum, against the range: one grows with it, the other falls."
        ),
    )


def _numbers(name: str, values: np.ndarray) -> np.ndarray:
    numbers = np.asarray(values, dtype=np.float32).ravel()
    if not np.isfinite(numbers).all():
        raise ValueError(f"tensors[{name!r}] must be finite, got NaN or infinity")
    if not numbers.any():
        raise ValueError(f"tensors[{name!r}] must hold a number other than 0, got {numbers.size} numbers")
    return numbers


def _quantize(x: torch.Tensor, bits: int, percent: int, grid: str) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """The levels of the grid, x rounded to it, and what of it is clipped."""
    t = percent / 100 * x.abs().max().item()
    symmetric = grid == "symmetric"
    codes = {"signed": symmetric, "narrow": symmetric}
    low, high = (-t, t) if symmetric else (max(min(x.min().item(), 0), -t), min(max(x.max().item(), 0), t))
    scale, zero = affine.choose_qparams(low, high, bits, symmetric=symmetric, **codes)
    lowest, highest = affine.quant_range(bits, **codes)
    levels = affine.dequantize(torch.arange(lowest, highest + 1), scale, zero)
    half = scale / 2
    return (
        levels.numpy(),
        affine.fake_quantize(x, scale, zero, bits, **codes),
        (x < levels[0] - half) | (x > levels[-1] + half),
    )


def _figure(name: str, x: torch.Tensor, bits: int, percent: int, grid: str) -> "Figure":
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    levels, _, clipped = _quantize(x, bits, percent, grid)
    shown = x != 0 if (x == 0).float().mean() > 0.1 else torch.ones_like(clipped)
    edges = np.histogram_bin_edges(x[shown].numpy(), 80)
    left.hist(x[shown & ~clipped].numpy(), edges, label="rounded")
    left.hist(x[clipped].numpy(), edges, color="0.8", hatch="////", edgecolor="0.45", linewidth=0, label="clipped")
    left.plot(
        levels, np.full(len(levels), -0.03), "|k", transform=left.get_xaxis_transform(), clip_on=False, markersize=7
    )
    left.set(xlabel=name, ylabel="values")
    left.tick_params(axis="x", pad=7)
    left.legend(frameon=False, fontsize=8)
    errors = []
    for p in PERCENTS:
        _, rounded, outside = _quantize(x, bits, p, grid)
        squares = (rounded.double() - x.double()).square()
        errors.append([(squares * part).mean().item() for part in (~outside, outside)])
    rounding, clipping = np.array(errors).T
    total = rounding + clipping
    for values, label, style in zip(
        (total, rounding, clipping), ("together", "rounding", "clipping"), ("-", "--", ":"), strict=True
    ):
        right.plot(PERCENTS, values, style, label=label, marker="none")
    right.axvline(percent, color="0.4", linewidth=1, linestyle=":", marker="none")
    right.set(
        xlabel="range, % of the largest magnitude",
        ylabel="mean squared error",
        yscale="log",
        ylim=(total.min() / 10 or None, None),
    )
    right.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
