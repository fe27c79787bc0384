"""Kinds of plot that the chapters share."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from compress_lib.figures.palette import BLUE, GROUND, INK, ORANGE, SOFT, TINT
from compress_lib.figures.ticks import in_lines

__all__ = ["dot_plot", "matrix"]


def dot_plot(
    rows: Mapping[str, float | Sequence[float]],
    xlabel: str,
    *,
    digits: int = 2,
    baseline: tuple[str, float] | None = None,
    highlight: str | None = None,
    axis: Axes | None = None,
) -> Axes:
    """Compare methods: a row each, a dot at the mean, whiskers of one standard error, and the mean in figures.

    Parameters
    ----------
    rows : mapping
        Name of a row → what was measured: one number, or one for each seed. The first row is drawn on top.
    xlabel : str
        What was measured, with its unit.
    digits : int, default 2
        Decimals of the written means.
    baseline : (str, float), optional
        Name and place of a vertical line to compare with.
    highlight : str, optional
        The row to draw in the accent color, with another marker.
    axis : Axes, optional
        Where to draw; a new figure if left out. Several axes with ``sharey=True`` compare the same rows in several
        respects.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there are no rows, a row has no numbers or one that is not finite, or ``highlight`` is not a row.
    """
    measured = {
        name: [float(v) for v in (values if isinstance(values, Sequence) else [values])]
        for name, values in rows.items()
    }
    for name, values in measured.items():
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"rows[{name!r}] must hold finite numbers, at least one, got {values}")
    if not measured:
        raise ValueError("rows must not be empty")
    if highlight is not None and highlight not in measured:
        raise ValueError(f"highlight must be one of {list(measured)}, got {highlight!r}")
    if axis is None:
        from matplotlib import pyplot as plt

        _, axis = plt.subplots(figsize=(7.2, 0.9 + 0.34 * len(measured)))

    for place, (name, values) in enumerate(measured.items()):
        accent = name == highlight
        error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        axis.errorbar(
            mean(values), place, xerr=error, marker="D" if accent else "o", markersize=7, linestyle="none",
            color=ORANGE if accent else BLUE, elinewidth=1.6,
        )  # fmt: skip
        axis.annotate(
            f"{mean(values):,.{digits}f}".replace("-", "−"), (mean(values), place), (0, 5), color=INK, fontsize=9,
            textcoords="offset points", ha="center", va="bottom",
            bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    axis.set_yticks(range(len(measured)), [in_lines(name, 30) for name in measured])
    axis.set_ylim(len(measured) - 0.5, -0.75)
    axis.set_xlabel(xlabel)
    axis.margins(x=0.08)
    axis.tick_params(axis="y", colors=INK)
    axis.tick_params(axis="x", length=0)
    axis.spines.bottom.set_visible(False)
    axis.grid(True, axis="both")
    if baseline is not None:
        label, value = baseline
        axis.axvline(value, color=SOFT, linestyle=(0, (4, 3)), linewidth=1.2, marker="", zorder=1)
        axis.annotate(
            label, (value, 1), (0, 3), xycoords=axis.get_xaxis_transform(), textcoords="offset points", color=SOFT,
            ha="center", va="bottom", fontsize=9,
        )  # fmt: skip
    return axis


def matrix(
    axis: Axes, values: Sequence[Sequence[float]] | np.ndarray, *, largest: float | None = None, numbers: bool = False
) -> None:
    """Draw a small matrix as squares, the darker the larger; zeros stay empty.

    Parameters
    ----------
    axis : Axes
    values : array, shape (rows, columns)
        Not negative. The first row is drawn on top.
    largest : float, optional
        What is drawn darkest, the same for matrices that are compared; the greatest of ``values`` if left out.
    numbers : bool, default False
        Write what is not zero into its square, as a whole number.

    Raises
    ------
    ValueError
        If ``values`` has another number of dimensions or something negative.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.min() < 0:
        raise ValueError(f"values must be a matrix without negative numbers, got {values}")
    largest = values.max() if largest is None else largest
    rows, columns = values.nonzero()
    corners = np.array([(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)])
    squares = np.stack([columns, rows], axis=1)[:, None] + corners
    axis.add_collection(
        PolyCollection(squares, facecolors=TINT(np.clip(values[rows, columns] / largest, 0, 1)), edgecolors="none")
    )
    axis.set(aspect="equal", xticks=[], yticks=[], xlim=(0, values.shape[1]), ylim=(values.shape[0], 0))
    axis.spines[:].set_visible(False)
    if numbers:
        for row, column in zip(rows, columns, strict=True):
            value = values[row, column]
            axis.text(
                column + 0.5, row + 0.52, f"{value:.0f}", ha="center", va="center_baseline", fontsize=7.5,
                color=GROUND if value > 0.55 * largest else INK,
            )  # fmt: skip
