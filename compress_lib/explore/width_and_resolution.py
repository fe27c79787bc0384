"""MobileNet's width and resolution multipliers. Chapter 14; the computation is in ``width_and_resolution.mjs``.

Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications", arXiv 1704.04861,
sections 3.3 and 3.4: α scales the width of every layer, ρ the size of the image.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from compress_lib import cost
from compress_lib.explore.frontend import measured
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.models import zoo
from compress_lib.models.mobilenet import DepthwiseSeparable, MobileNetV1, mobilenet_v1

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHAS = [i / 20 for i in range(5, 21)]
SIZES = [128, 160, 192, 224]
SEPARABLE, FULL = "depthwise separable", "full"
SMALL = {SEPARABLE: "mobilenet-v1-small", FULL: "plain-small"}  # the networks whose accuracies are measured
SMALL_SIZE = 28  # pixels of their images
KERNELS = [3, 5]
PAPER_ALPHAS = [0.25, 0.5, 0.75, 1.0]


def explorer(
    *,
    alpha: float = 1.0,
    size: int = 224,
    convolutions: str = SEPARABLE,
    kernel: int = 3,
    block: int = 7,
    accuracies: Mapping[str, Mapping[float, Sequence[float]]] | None = None,
) -> Explorer:
    """The explorer of MobileNetV1 at every width and image size, beside the same network of full convolutions.

    Parameters
    ----------
    alpha : float
        At the start, a multiple of 0.05 from 0.25 to 1. Widths are rounded as `models.mobilenet` does.
    size : int
        At the start, height = width of the image in pixels, 224ρ: 128, 160, 192 or 224.
    convolutions : str
        At the start, "depthwise separable" or "full".
    kernel : int
        At the start, 3 or 5: K of the depthwise, or of the full, convolutions of the blocks. MobileNetV1 has 3.
    block : int
        The block whose traffic to memory is looked at, from 1 to 13.
    accuracies : mapping of str to mapping of float to sequence of float, optional
        "depthwise separable" and "full", each to α, each to the accuracies in [0, 1] that were measured with
        mobilenet-v1-small and with plain-small of this α, one for each seed. Without any there is no chart of them.

    Returns
    -------
    Explorer
        With ``results`` params, macs, fewer_macs and fewer_params (those of the full convolutions of this α, image and
        K ÷ macs and params), fewer_than_largest (MACs of the full convolutions at α = 1, 224 px and this K ÷ macs),
        depthwise_share and pointwise_share (of macs), and the MACs per byte moved of the chosen block, as of
        `cost.arithmetic_intensity`, depthwise_intensity, pointwise_intensity and full_intensity (of the full
        convolution in their place). What full convolutions lack is None.

    Raises
    ------
    ValueError
        If an argument is none that the controls allow, or accuracies are of other convolutions or another α, or outside
        [0, 1].
    """
    model = _network(1.0)
    shapes = _shapes(model)
    controls = [
        slider("alpha", "width α", ALPHAS, alpha),
        slider("size", "image size", SIZES, size, "px"),
        choice("block", "block", list(range(1, len(shapes["blocks"]) + 1)), block),
        choice("convolutions", "convolutions", [SEPARABLE, FULL], convolutions),
        choice("kernel", "their kernel K", KERNELS, kernel),
    ]
    figure, macs, least, most = _figure(model)
    return Explorer(
        "width_and_resolution",
        controls=controls,
        title="Narrower, or smaller images?",
        data={
            "alphas": ALPHAS,
            "sizes": SIZES,
            **shapes,
            **({"measured": _measured(accuracies)} if accuracies else {}),
        },
        fallback=lambda: figure,
        alt=(
            "Left, multiply–adds of MobileNetV1 against the width multiplier α, a curve for each image size; "
            "at 224 pixels, "
            f"in millions: {macs}. Right, multiply–adds for each byte moved, block by block: at most {most:.2f} in a "
            f"depthwise half, at least {least:.2f} in a pointwise half."
        ),
    )


def _shapes(model: MobileNetV1) -> dict:
    """What the page needs to count a network of either kind of convolutions, at any α."""
    stem = model.features[0][0]
    blocks = []
    for block in model.features[1:]:
        separable = isinstance(block, DepthwiseSeparable)
        first, last = (block.depthwise[0], block.pointwise[0]) if separable else (block[0], block[0])
        blocks.append({"width": last.out_channels, "stride": first.stride[0]})
    return {
        "inputs": stem.in_channels,
        "stem": {"width": stem.out_channels, "stride": stem.stride[0]},
        "blocks": blocks,
        "classes": model.fc.out_features,
    }


def _measured(accuracies: Mapping[str, Mapping[float, Sequence[float]]]) -> dict:
    """By kind of convolutions, the shapes of the small network, and its accuracies by α."""
    if unknown := [kind for kind in accuracies if kind not in SMALL]:
        raise ValueError(f"accuracies must have keys among {list(SMALL)}, got {unknown}")
    found = {}
    for kind, given in accuracies.items():
        where = f"accuracies[{kind!r}]"
        if others := [alpha for alpha in given if alpha not in ALPHAS]:
            raise ValueError(f"{where} must have keys among {ALPHAS}, got {others}")
        with torch.device("meta"):
            shapes = _shapes(zoo.build(SMALL[kind]))
        points = [
            {"alpha": float(alpha), "accuracy": accuracy}
            for alpha, values in sorted(given.items())
            for accuracy in measured.accuracies(values, len(values), f"{where}[{alpha}]")
        ]
        found[kind] = shapes | {"size": SMALL_SIZE, "points": points}
    return found


def _network(alpha: float) -> MobileNetV1:
    with torch.device("meta"):  # shapes are enough: no weights are drawn
        return mobilenet_v1(alpha=alpha)


def _figure(model: MobileNetV1) -> tuple["Figure", str, float, float]:
    """The paper's sixteen networks, and how much each half of a block has to do for a byte.

    With them what the alternative text says: MACs in words, the least of the pointwise halves, the most of the
    depthwise.
    """
    from matplotlib import pyplot as plt

    counts = {size: [cost.count(_network(alpha), (3, size, size)) for alpha in PAPER_ALPHAS] for size in SIZES}
    layers = {row.name: row for row in counts[224][-1].layers}
    blocks = range(1, len(model.features))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
    for (size, found), style in zip(reversed(counts.items()), ("o-", "s--", "^:", "D-."), strict=True):
        left.plot(PAPER_ALPHAS, [c.macs / 1e6 for c in found], style, markersize=4, label=f"{size} px")
    left.set(xlabel="width multiplier α", ylabel="multiply–adds, millions", ylim=(0, None))
    work = {
        half: [cost.arithmetic_intensity(layers[f"features.{i}.{half}.0"]) for i in blocks]
        for half in ("depthwise", "pointwise")
    }
    for (half, values), style in zip(work.items(), ("o-", "s--"), strict=True):
        right.plot(blocks, values, style, markersize=4, label=half)
    right.set(xlabel="block (α = 1, 224 px)", ylabel="MACs per byte moved", ylim=(0, None))
    for axis in (left, right):
        axis.legend(frameon=False, fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    macs = ", ".join(f"{c.macs / 1e6:.2f} at α = {alpha:g}" for alpha, c in zip(PAPER_ALPHAS, counts[224], strict=True))
    return figure, macs, min(work["pointwise"]), max(work["depthwise"])
