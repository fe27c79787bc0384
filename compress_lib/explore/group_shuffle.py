"""Who sees whom through stacked group convolutions, with a shuffle or without. Chapter 15.

The computation is in ``group_shuffle.mjs``, the diagram in ``group_shuffle_charts.mjs``. The shuffle is that of Zhang,
Zhou, Lin, Sun, "ShuffleNet", CVPR 2018, arXiv 1707.01083 (`compress_lib.models.shuffle_units.channel_shuffle`).
"""

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANNELS = (8, 12, 16, 24)
GROUPS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
LAYERS = (1, 2, 3, 4)


def explorer(
    *, channels: int = 12, groups: int = 3, layers: int = 2, shuffle: bool = False, output: int = 5, size: int = 28
) -> Explorer:
    """The wiring of 1×1 convolutions of ``channels`` channels in groups, one after the other, without biases.

    Where a reader picks groups that do not divide the channels, the next fewer that do are shown; where the output is
    beyond the last, the last. The explorer says so.

    Parameters
    ----------
    channels : {8, 12, 16, 24}
    groups : int
        At the start, a divisor of ``channels``.
    layers : {1, 2, 3, 4}
    shuffle : bool
        Whether the channels are shuffled between the layers at the start.
    output : int
        The output that is traced back at the start, from 0 to ``channels − 1``.
    size : int
        Height = width of the feature maps.

    Returns
    -------
    Explorer
        With ``results`` seen (inputs that the output depends on), fewest (of all outputs), complete (outputs that
        depend on all inputs), groups, params, params_one_group, macs, macs_one_group (of all layers; for g and for one
        group).

    Raises
    ------
    ValueError
        If an argument is not one of its control's values, ``groups`` does not divide ``channels``, there is no such
        output, or ``size`` is not positive.
    """
    if channels in CHANNELS and (groups not in GROUPS or channels % groups):
        fit = [g for g in GROUPS if channels % g == 0]
        raise ValueError(f"groups must divide channels={channels}, one of {fit}, got {groups}")
    if channels in CHANNELS and output not in range(channels):
        raise ValueError(f"output must be from 0 to {channels - 1} for channels={channels}, got {output}")
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    controls = [
        slider("channels", "channels c", CHANNELS, channels),
        slider("groups", "groups g", GROUPS, groups),
        slider("layers", "layers", LAYERS, layers),
        choice("shuffle", "shuffle between the layers", ["off", "on"], "on" if shuffle else "off"),
        slider("output", "output to trace back", range(max(CHANNELS)), output),
    ]
    steps = _trace(channels, groups, layers, shuffle, output)
    between = "a shuffle" if shuffle else "no shuffle"
    return Explorer(
        "group_shuffle",
        controls=controls,
        title="Which inputs does this output see?",
        data={"size": size},
        fallback=lambda: _figure(channels, groups, shuffle, steps),
        alt=(
            f"Wiring diagram of {channels} channels through layers of {groups} groups, {layers} in all, with "
            f"{between} between them. The lines that lead to output {output} are drawn thick: they come from "
            f"{len(steps[0][0])} of the {channels} inputs."
        ),
    )


def _sources(channels: int, groups: int, shuffle: bool) -> np.ndarray:
    """For each place that a layer reads, the output of the layer before that stands there."""
    numbers = np.arange(channels)
    return numbers.reshape(groups, -1).T.ravel() if shuffle else numbers


def _trace(channels: int, groups: int, layers: int, shuffle: bool, output: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places read and outputs written on the way to ``output``, layer by layer from the first."""
    size = channels // groups
    steps: list[tuple[np.ndarray, np.ndarray]] = []
    writes = np.array([output])
    for _ in range(layers):
        reads = np.flatnonzero(np.isin(np.arange(channels) // size, writes // size))
        steps.insert(0, (reads, writes))
        writes = _sources(channels, groups, shuffle)[reads]
    return steps


def _figure(channels: int, groups: int, shuffle: bool, steps: list[tuple[np.ndarray, np.ndarray]]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 1.2 + 1.5 * len(steps)), layout="constrained")
    size = channels // groups
    x = np.arange(channels) + np.arange(channels) // size * 0.5
    solid: dict[str, Any] = {"marker": "none", "linestyle": "-"}  # whatever the style cycles through
    thin = solid | {"color": "0.75", "linewidth": 0.6, "zorder": 1}
    thick = solid | {"color": "C0", "linewidth": 1.6, "zorder": 2}
    dots: dict[str, Any] = {"s": 26, "zorder": 3, "edgecolors": "0.5", "linewidths": 0.8}
    for layer, (reads, writes) in enumerate(steps):
        high, low, below = -2.0 * layer, -2.0 * layer - 1.2, -2.0 * layer - 2
        for i, k in product(range(channels), repeat=2):
            if i // size == k // size:
                axis.plot(x[[i, k]], [high, low], **(thick if k in writes else thin))
        if layer < len(steps) - 1:
            for place, k in enumerate(_sources(channels, groups, shuffle)):
                axis.plot(x[[k, place]], [low, below], **(thick if k in writes else thin))
        for y, marked in ((high, reads), (low, writes)):
            axis.scatter(x, np.full(channels, y), c=["C0" if p in marked else "white" for p in range(channels)], **dots)
        axis.text(-1.2, (high + low) / 2, f"layer {layer + 1}", ha="right", va="center")
    axis.text(-1.2, 0, "inputs", ha="right", va="center")
    axis.text(-1.2, low, "outputs", ha="right", va="center")
    axis.axis("off")
    return figure
