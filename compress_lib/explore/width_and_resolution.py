"""MobileNet's width and resolution multipliers. Chapter 14; the computation is in ``width_and_resolution.mjs``.

Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications", arXiv 1704.04861,
sections 3.3 and 3.4: α scales the width of every layer, ρ the size of the image.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from compress_lib import cost
from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer
from compress_lib.models.mobilenet import MobileNetV1, mobilenet_v1

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHAS = [i / 20 for i in range(5, 21)]
SIZES = [128, 160, 192, 224]
SEPARABLE, FULL = "depthwise separable", "full"
KERNELS = [3, 5]
PAPER_ALPHAS = [0.25, 0.5, 0.75, 1.0]


def explorer(
    *, alpha: float = 1.0, size: int = 224, convolutions: str = SEPARABLE, kernel: int = 3, block: int = 7
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
        If an argument is none that the controls allow.
    """
    model = _network(1.0)
    convolutions_of = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    stem = convolutions_of["features.0.0"]
    blocks = [f"features.{i}" for i in range(1, len(model.features))]
    shapes = [
        (convolutions_of[f"{name}.pointwise.0"].out_channels, convolutions_of[f"{name}.depthwise.0"].stride[0])
        for name in blocks
    ]
    controls = [
        slider("alpha", "width multiplier α", ALPHAS, alpha),
        slider("size", "image height = width", SIZES, size, "px"),
        choice("block", "block", list(range(1, len(shapes) + 1)), block),
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
            "inputs": stem.in_channels,
            "stem": {"width": stem.out_channels, "stride": stem.stride[0]},
            "blocks": [{"width": width, "stride": stride} for width, stride in shapes],
            "classes": model.fc.out_features,
        },
        fallback=lambda: figure,
        alt=(
            "Left, multiply–adds of MobileNetV1 against the width multiplier α, a curve for each image size; "
            "at 224 pixels, "
            f"in millions: {macs}. Right, multiply–adds for each byte moved, block by block: at most {most:.2f} in a "
            f"depthwise half, at least {least:.2f} in a pointwise half."
        ),
    )


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
