"""k centroids for the weights of a real layer, as sliders. Chapter 06; the computation is in ``centroids.mjs``.

Han, Mao, Dally, ICLR 2016, arXiv 1510.00149, section 3, compare the same three starts.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.explore.frontend.sorted_floats import pack_sorted
from compress_lib.quantization.codebooks import kmeans

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
STEPS = (*range(11), 12, 14, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # the last: to the fixed point
STARTS = {"linear": "o-", "density": "s--", "random": "^:"}


def explorer(weights: Mapping[str, np.ndarray], *, k: int = 16, init: str = "linear", seed: int = 0) -> Explorer:
    """The explorer of shared weights, for some layers or versions of one, at about 3 bytes a weight.

    The page runs `kmeans.cluster` on the weights that are not zero, as `kmeans.convert` does; the others, pruned, stay
    zero. All weights are sent as they are, and the centroids are the library's, bit for bit.

    Parameters
    ----------
    weights : mapping of str to array
        What it is ("fc2") to its weights, of any shape, rounded to float32; at least 256 different ones that are not
        zero. The first is shown at the start.
    k : int
        Centroids at the start, one of `KS`.
    init : {"linear", "density", "random"}
        At the start.
    seed : int
        Of the random start, as for `kmeans.cluster`.

    Returns
    -------
    Explorer
        With ``results`` rmse, worst (largest change of a weight), relative (rmse ÷ root mean square of the weights),
        steps (in which centroids moved, as many as the slider allows; its last value allows all), code_bytes
        (``⌈log2 k⌉`` bits each, packed), codebook_bytes (4 k), nbytes (their sum), float_bytes and
        ratio = float_bytes ÷ nbytes, which for n weights and k = 2^j is ``r = n b / (n log2 k + k b)`` with b = 32.
        All are of the weights that are not zero; where those are is not counted.

    Raises
    ------
    ValueError
        If there are no layers, one is not finite or has too few different weights, or they are too large for a page.
    """
    if not weights:
        raise ValueError("weights must name at least one layer")
    layers = [_layer(name, np.asarray(values, dtype=np.float32), seed) for name, values in weights.items()]
    first, values = next(iter(weights.items()))
    controls = [
        slider("k", "centroids, k", KS, k),
        slider("step", "steps of k-means, at most", STEPS, STEPS[-1]),
        choice("init", "start", list(STARTS), init),
        choice("weights", "weights", list(weights), first),
    ]
    kept = torch.from_numpy(np.asarray(values, dtype=np.float32).ravel())
    return Explorer(
        "centroids",
        controls=controls,
        title="How many values does a layer need?",
        data={"ks": list(KS), "steps": list(STEPS), "layers": layers},
        fallback=lambda: _figure(first, kept[kept != 0], k, init, seed),
        alt=(
            f"Left, a histogram of the weights of {first} with {k} centroids, found from the {init} start, as ticks. "
            "Right, the RMS error falls as k grows from 2 to 256, on logarithmic axes, for the starts "
            f"{', '.join(STARTS)}."
        ),
    )


def _layer(name: str, weights: np.ndarray, seed: int) -> dict:
    if not np.isfinite(weights).all():
        raise ValueError(f"weights[{name!r}] must be finite, got NaN or infinity")
    kept = weights[weights != 0]
    distinct = np.unique(kept)
    if len(distinct) < max(KS):
        raise ValueError(f"weights[{name!r}] must hold {max(KS)} different weights other than 0, got {len(distinct)}")
    # kmeans.cluster starts from the first k of this permutation, whatever k is.
    drawn = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed))[: max(KS)]
    return {
        "name": name,
        "size": weights.size,
        "values": pack_sorted(kept),
        "drawn": distinct[drawn.numpy()],
    }


def _figure(name: str, weights: torch.Tensor, k: int, init: str, seed: int) -> "Figure":
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    left.hist(weights.numpy(), 100)
    centroids, _ = kmeans.cluster(weights, k, init=init, seed=seed)
    ticks = left.get_xaxis_transform()
    left.plot(centroids, np.full(k, -0.03), "|k", transform=ticks, clip_on=False, markersize=7)
    left.set(xlabel=f"weight of {name}", ylabel="weights")
    left.tick_params(axis="x", pad=7)
    for start, style in STARTS.items():
        found = [kmeans.cluster(weights, count, init=start, seed=seed) for count in KS]
        errors = [math.sqrt(kmeans.sse(weights, *one) / weights.numel()) for one in found]
        right.plot(KS, errors, style, markersize=4, label=f"{start} start")
    right.axvline(k, color="0.4", linewidth=1, linestyle=":", marker="none")
    right.set_xscale("log", base=2)
    right.set(xlabel="centroids, k", ylabel="RMS error", yscale="log")
    right.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
