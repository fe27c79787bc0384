"""Filters of one convolution, removed one by one. Chapter 03; the computation is in ``filter_surgery.mjs``.

Li et al. 2017, arXiv 1608.08710, remove the filters of smallest L1 norm, and with them what the next layer reads of
them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compress_lib.explore.frontend import measured
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.explore.frontend.packing import levels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compress_lib.cost import Cost


def explorer(
    maps: np.ndarray,
    orders: Mapping[str, Sequence[int]],
    accuracy: Mapping[str, Sequence[float]],
    *,
    images: Mapping[str, np.ndarray],
    norms: tuple[str, Sequence[float]],
    costs: "Cost",
    shapes: Mapping[str, Sequence[int]],
    layer: str,
    reader: str,
    batch_norm: str = "",
    recovered: tuple[str, Mapping[str, Sequence[float]]] | None = None,
    removed: int = 0,
) -> Explorer:
    """The explorer of one convolution with n filters, one layer that reads it, and the network around them.

    Parameters
    ----------
    maps : array of shape (images, n, height, width)
        What the filters make of the images. Drawn from 256 levels of one scale.
    orders : mapping of str to sequence of int
        One to three orders in which the filters are removed, each a permutation of 0 … n − 1, first to go first.
    accuracy : mapping of str to sequence of float
        For each order, the n measured accuracies in [0, 1] after removing 0, 1, …, n − 1 filters.
    images : mapping of str to array of shape (H, W)
        Name and pixels of each image of ``maps``, in its order.
    norms : (str, sequence of float)
        What the bars are called, and one number per filter.
    costs : compress_lib.cost.Cost
        Of the whole network, from ``cost.count``.
    shapes : mapping of str to sequence of int
        Parameter name to shape, ``{name: p.shape for name, p in model.named_parameters()}``.
    layer, reader, batch_norm : str
        Names of the convolution, of the only layer that reads it (a convolution, or a linear layer after flattening),
        and of the normalization between them, if there is one.
    recovered : (str, mapping as ``accuracy``), optional
        How the network was repaired, said after a number ("after fresh batch statistics"), and the accuracies then.
    removed : int
        Filters removed at the start.

    Returns
    -------
    Explorer
        With ``results`` layer_params, reader_params, params, nbytes (4 per parameter), layer_macs, reader_macs, macs of
        what is left, and accuracy and recovered (None where nothing was measured).

    Raises
    ------
    ValueError
        If the arrays do not fit together, an order is no permutation, an accuracy leaves [0, 1], or a layer is not in
        the network or does not fit the number of filters.
    """
    maps = np.asarray(maps, dtype=np.float64)
    pictures = _pictures(maps, images)
    n = maps.shape[1]
    orders = _orders(orders, n)
    bars = np.asarray(norms[1], dtype=np.float64)
    if bars.shape != (n,):
        raise ValueError(f"norms must hold {n} numbers, got shape {bars.shape}")
    data: dict[str, Any] = {
        "names": list(images),
        "images": np.stack([levels(picture)[0] for picture in pictures]),
        "orders": orders,
        "accuracy": measured.table(accuracy, orders, n, "accuracy"),
        "norm": norms[0],
        "norms": bars,
        "layer": _weighted("layer", layer, 0, n, costs, shapes),
        "reader": _weighted("reader", reader, 1, n, costs, shapes),
        "network": {"params": costs.params, "macs": costs.macs},
    }
    data["maps"], data["pixels"] = levels(maps)
    most = np.abs(maps)
    # In full color from the 99th percentile on: a few extremes would leave the rest pale.
    data["pixels"]["peak"] = float(np.quantile(most, 0.99) or most.max() or 1.0)
    if batch_norm:
        data["batch_norm"] = {"name": batch_norm, "params": _cost("batch_norm", batch_norm, costs).params}
        if (shape := tuple(shapes[f"{batch_norm}.weight"])) != (n,):
            raise ValueError(f"batch_norm={batch_norm!r} must have a weight for each of {n} filters, got shape {shape}")
    if recovered:
        data["recovery"] = recovered[0]
        data["recovered"] = measured.table(recovered[1], orders, n, "recovered")
    first = next(iter(orders))
    return Explorer(
        "filter_surgery",
        controls=[
            slider("removed", "filters removed", range(n), removed),
            choice("order", "order of removal", list(orders), first),
            choice("image", "image", list(images), next(iter(images))),
        ],
        title="Which filters would you remove?",
        data=data,
        fallback=lambda: _figure(maps[0], orders[first][:removed], data),
        alt=(
            f"Left, the {n} feature maps that {layer} makes of one image, {removed} of them crossed out as removed. "
            f"Right, measured accuracy against the number of filters removed, in the order {', '.join(orders)}."
        ),
    )


def _pictures(maps: np.ndarray, images: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The images of some maps, when both have been checked."""
    pictures = [np.asarray(image) for image in images.values()]
    if maps.ndim != 4 or maps.shape[1] < 2 or not maps.size or not np.isfinite(maps).all():
        raise ValueError(f"maps must be finite, (images, at least 2 filters, height, width), got shape {maps.shape}")
    if len(pictures) != len(maps) or len({picture.shape for picture in pictures}) > 1 or pictures[0].ndim != 2:
        raise ValueError(f"images must name {len(maps)} arrays (H, W) of one shape, got {[p.shape for p in pictures]}")
    if not np.isfinite(pictures).all():
        raise ValueError("images must be finite, got NaN or infinity")
    return pictures


def _orders(orders: Mapping[str, Sequence[int]], n: int) -> dict[str, list[int]]:
    """The orders as lists, when they have been checked: permutations of n filters."""
    if not 1 <= len(orders) <= 3:
        raise ValueError(f"orders must be one to three, got {list(orders)}")
    found = {name: [int(j) for j in order] for name, order in orders.items()}
    for name, order in found.items():
        if sorted(order) != list(range(n)):
            raise ValueError(f"orders[{name!r}] must be a permutation of 0 to {n - 1}, got {order}")
    return found


def _cost(argument: str, name: str, costs: "Cost") -> Any:
    found = {row.name: row for row in costs.layers if row.params}
    if name not in found:
        raise ValueError(f"{argument} must be one of the layers {list(found)}, got {name!r}")
    return found[name]


def _weighted(argument: str, name: str, axis: int, n: int, costs: "Cost", shapes: Mapping) -> dict:
    """Shape of the weight, length of the bias, and the number of positions at which the weight is applied."""
    row = _cost(argument, name, costs)
    shape = [int(size) for size in shapes.get(f"{name}.weight", ())]
    flattened = axis == 1 and len(shape) == 2  # a linear layer reads all positions of a map
    if len(shape) < 2 or (shape[axis] % n if flattened else shape[axis] != n):
        raise ValueError(f"{argument}={name!r} must have a weight with {n} channels along axis {axis}, got {shape}")
    weights = math.prod(shape)
    return {"name": name, "shape": shape, "bias": row.params - weights, "positions": row.macs // weights}


def _figure(maps: np.ndarray, gone: Sequence[int], data: Mapping) -> "Figure":
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    columns = math.ceil(math.sqrt(len(maps)))
    axes = left.subplots(math.ceil(len(maps) / columns), columns, squeeze=False).ravel()
    peak = np.abs(maps).max()
    for j, axis in enumerate(axes):
        axis.axis("off")
        if j < len(maps):
            axis.imshow(maps[j], cmap="Greys", vmin=0, vmax=peak)
            axis.set_title(str(j), fontsize=7, pad=2)
        if j in gone:
            axis.plot([0, 1], [0, 1], [0, 1], [1, 0], color="0.4", transform=axis.transAxes)
    axis = right.subplots()
    measured.draw(axis, range(len(maps)), data["accuracy"], "filters removed")
    axis.locator_params(axis="x", integer=True)
    return figure
