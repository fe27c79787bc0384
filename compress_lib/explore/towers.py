"""A 1×1 convolution and k×k convolutions in towers, from Inception to Xception. Chapter 16.

The computation is in ``towers.mjs``, the drawing in ``towers_charts.mjs``. The modules are those of figures 2 to 4 of
Chollet, "Xception: deep learning with depthwise separable convolutions", CVPR 2017, arXiv 1610.02357.
"""

from typing import TYPE_CHECKING

from compress_lib.explore.frontend.controls import slider
from compress_lib.explore.frontend.explorer import Explorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHANNELS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 728, 768, 1024)  # 728: Xception's middle
TOWERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
KERNELS = (3, 5, 7)
SIZES = (7, 14, 19, 28, 37, 56, 112)  # 37 and 19: Xception's, for images of 299


def explorer(
    *, channels_in: int = 256, channels_out: int = 256, towers: int = 1, kernel: int = 3, size: int = 14
) -> Explorer:
    """The cost of a 1×1 convolution of M → N channels followed by a k×k one in t groups, the towers, without biases.

    Relative to one full k×k convolution of M → N channels it is ``N/(tM) + 1/k²``, for parameters as for multiply-adds:
    ``1/M + 1/k²`` with a tower for each channel. In Xception's own order, k×k on the M inputs and then 1×1, it is
    ``1/N + 1/k²``, a row of the explorer's table. Where so many towers do not divide the channels, the next fewer that
    do are shown, and the explorer says so: the slider's right end is always a tower for each channel.

    Parameters
    ----------
    channels_in, channels_out : int
        M and N at the start, one of 8, 12, 16, …, 512, 728, 768, 1024.
    towers : int
        t at the start, one of 1, 2, 3, 4, 6, 8, …, 768, 1024: 1 is an ordinary convolution, N or more depthwise.
    kernel : {3, 5, 7}
    size : int
        Height = width of the feature maps at the start: 7, 14, 19, 28, 37, 56 or 112.

    Returns
    -------
    Explorer
        With ``results`` towers, relative (cost ÷ full convolution), extreme (the same at t = N), break_even (the t
        above which it is cheaper than the full convolution, ``N k² / (M (k² − 1))``), and params and macs of the whole,
        with the prefixes ``pointwise_``, ``spatial_`` and ``full_`` of the parts and of the full convolution.

    Raises
    ------
    ValueError
        If an argument is not one of its slider's values.
    """
    controls = [
        slider("channels_in", "inputs M", CHANNELS, channels_in),
        slider("channels_out", "outputs N", CHANNELS, channels_out),
        slider("towers", "towers t", TOWERS, towers),
        slider("kernel", "kernel k", KERNELS, kernel),
        slider("size", "map size", SIZES, size, "px"),
    ]
    return Explorer(
        "towers",
        controls=controls,
        title="How many towers?",
        data={"towers": list(TOWERS)},
        fallback=lambda: _figure(channels_in, channels_out),
        alt=(
            f"Cost of a 1 × 1 convolution of {channels_in} → {channels_out} channels and k × k convolutions in t "
            f"towers, relative to one full k × k convolution, against t, both axes logarithmic, for k = 3, 5 and 7. "
            f"With more towers it falls towards 1/k²; a dashed line marks the full convolution."
        ),
    )


def _figure(inputs: int, channels: int) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    towers = [t for t in range(1, channels + 1) if channels % t == 0]
    for kernel, marker in zip(KERNELS, "os^", strict=True):
        axis.plot(
            towers,
            [channels / (t * inputs) + kernel**-2 for t in towers],
            f"{marker}-",
            label=f"k = {kernel}",
            markersize=4,
        )
    axis.axhline(1, color="0.4", linestyle="--", linewidth=1, label="full convolution")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.4g} %")
    axis.set(xlabel="towers t", ylabel="cost ÷ full convolution")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
