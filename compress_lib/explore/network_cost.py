"""What a convolution costs, as sliders. Chapter 01; the computation is in ``network_cost.mjs``."""

import math
from typing import TYPE_CHECKING

from compress_lib.explore.frontend.controls import choice, slider
from compress_lib.explore.frontend.explorer import Explorer

if TYPE_CHECKING:
    from compress_lib.cost import Roofline

CHANNELS = [1, 3, 4, 8, 10, 16, 20, 24, 32, 50, 64, 96, 128, 256, 512, 1024]


def explorer(
    *,
    size: int = 28,
    channels_in: int = 16,
    channels_out: int = 32,
    kernel: int = 3,
    stride: int = 1,
    padding: str | int = "same",
    groups: int = 1,
    bias: bool = True,
    roofline: "Roofline | None" = None,
) -> Explorer:
    """The architecture cost calculator, starting from the given convolution.

    Parameters
    ----------
    size : int
        Height = width of the input.
    channels_in, channels_out, kernel, stride, groups : int
        As in ``torch.nn.Conv2d``; one of the slider's values.
    padding : "same" or int
        "same" pads by ⌊kernel / 2⌋.
    bias : bool
        Whether the layer has one.
    roofline : Roofline, optional
        Of the machine that the chapter ran on, from `cost.roofline`. Without it there is no chart of the roof.

    Returns
    -------
    Explorer
        With ``results`` output, params, macs, weight_bytes, activation_bytes, intensity (MACs per byte moved),
        saving (MACs with one group ÷ MACs) and bound_ms (milliseconds that the layer takes at least on the machine of
        ``roofline``; None without). All are None where no such layer exists.

    Raises
    ------
    ValueError
        If an argument is not one of its slider's values, or a limit of ``roofline`` is not above 0 and finite.
    """
    data = {}
    if roofline is not None:
        limits = {"peak": roofline.peak_macs_per_s, "bandwidth": roofline.bandwidth_bytes_per_s}
        if not all(0 < limit < math.inf for limit in limits.values()):
            raise ValueError(f"roofline must have limits above 0, got {roofline}")
        data["roofline"] = limits | {"threads": roofline.threads}
    controls = [
        slider("size", "image size", [1, 7, 8, 12, 14, 16, 24, 28, 32, 56, 64, 112, 128, 224], size, "px"),
        slider("channels_in", "inputs M", CHANNELS, channels_in),
        slider("channels_out", "outputs N", CHANNELS, channels_out),
        slider("kernel", "kernel K", [1, 2, 3, 5, 7, 9, 11], kernel),
        slider("stride", "stride", [1, 2, 3, 4], stride),
        slider("groups", "groups", [1, 2, 3, 4, 8, 16, 20, 32, 64, 128, 256, 512, 1024], groups),
        choice("padding", "padding", ["same", 0, 1, 2, 3, 4, 5], padding),
        choice("bias", "bias", ["yes", "no"], "yes" if bias else "no"),
    ]
    return Explorer(
        "network_cost",
        controls=controls,
        title="What does this convolution cost?",
        data=data,
        fallback=lambda: _figure(),
        alt=(
            "Bar chart of the cost of a 3 × 3 convolution relative to one group, for 1, 2, 4, 8 and 16 groups: with g "
            "groups the weights and the multiply–adds fall to one g-th, while the bytes of the activations "
            "stay the same."
        ),
    )


def _figure():
    """Cost against groups: the one trade-off that a still picture of the sliders can show."""
    from matplotlib import pyplot as plt

    groups = [1, 2, 4, 8, 16]
    figure, axis = plt.subplots(figsize=(6.4, 3))
    positions = range(len(groups))
    axis.bar([p - 0.2 for p in positions], [1 / g for g in groups], 0.38, label="weights and multiply–adds")
    axis.bar([p + 0.2 for p in positions], [1] * len(groups), 0.38, label="activation bytes", color="0.75", hatch="//")
    axis.set_xticks(list(positions), [str(g) for g in groups])
    axis.set(xlabel="groups", ylabel="relative to one group")
    axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.18), ncols=2)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
